"""What docs/guides/many-machines.md says about options, limits and files is so."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from places import REPOSITORY

from prunecast.measure import dispatch
from prunecast.plugins.examples.executor import CommandsOptions
from prunecast.plugins.host import PluginHost
from prunecast.spec.load import load_spec
from prunecast_plugins.executors.ray import RayOptions

PAGE = (REPOSITORY / "docs" / "guides" / "many-machines.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def yaml_with(key: str) -> Any:
    (found,) = (content for block in blocks("yaml") if key in (content := yaml.safe_load(block)))
    return found


COMMANDS = [line for block in blocks("(?:sh|yaml)") for line in re.sub(r"\\\n", " ", block).splitlines()]
OVERRIDES = sorted(
    {tuple(re.findall(r"--set ([\w.]+=[\w.-]+)", line)) for line in COMMANDS if "--set executor" in line}
)


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_options_on_command_lines_are_those_of_executors(overrides: tuple[str, ...]) -> None:
    executor = load_spec("quickstart", PluginHost.discover(), overrides).executor
    assert executor is not None
    given = executor.options.model_dump(exclude_defaults=True)
    assert set(given) == {each.partition("=")[0].partition(".")[2] for each in overrides} - {"use"}


def test_the_table_has_the_options_of_ray() -> None:
    table = PAGE[PAGE.index("| option | meaning |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(RayOptions.model_fields)


def test_commands_are_options_of_the_example() -> None:
    section = yaml_with("executor")["executor"]
    assert section.pop("use") == "commands"
    CommandsOptions.model_validate(section)
    assert all(command.endswith("-P -m prunecast.measure.worker") for command in section["commands"])


def test_the_cluster_is_one_for_rays_launcher() -> None:
    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:
        pytest.skip("needs Ray")
    schema = json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml_with("cluster_name"), schema)


def test_pods_have_one_image_and_one_volume() -> None:
    cluster = yaml_with("kind")["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert pods[0] == pods[1]
    [dockerfile] = blocks("dockerfile")
    assert f"ray:{cluster['rayVersion']}-" in dockerfile


def test_the_script_for_slurm_is_one_for_bash() -> None:
    (script,) = (block for block in blocks("sh") if block.startswith("#!/bin/bash"))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_limits_of_losses_are_as_told() -> None:
    assert (dispatch.TIMES_LONGEST, dispatch.LEAST_SECONDS, dispatch.FIRST_SECONDS) == (10, 60.0, 3600.0)
    assert (dispatch.MOST_LOSSES, dispatch.MOST_LOSSES_IN_A_ROW) == (2, 8)
    for words in (
        "ten times the longest",
        "more than 60 s (an hour",
        "two workers are lost",
        "more than eight workers",
    ):
        assert words in PAGE
