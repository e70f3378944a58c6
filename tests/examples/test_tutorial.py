"""The code and output shown in docs/guides/plugins.md are correct."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import REPOSITORY

from prunecast.errors import SpecError
from prunecast.plugins.families import read_family
from prunecast.plugins.host import PluginHost
from prunecast.spec.load import parse_spec
from prunecast.testing import check_predictor, check_searcher

PAGE = (REPOSITORY / "docs" / "guides" / "plugins.md").read_text(encoding="utf-8")

SPEC: dict[str, Any] = {
    "model": {"source": "smollm2-135m"},
    "space": "layerwise",
    "pruner": "magnitude",
    "evaluators": [{"use": "perplexity", "dataset": "wikitext2"}],
    "predictor": "gbdt",
    "searcher": "random",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    """The files the page writes, by the name in their first line."""
    written = (block.split("\n", 1) for block in blocks("(?:python|toml)") if block.startswith("# "))
    return {name.removeprefix("# "): text for name, text in written}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the page, importable."""
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


DESCRIPTION = "# twin.yaml;"


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if "samplers/" not in b and DESCRIPTION not in b])
def test_every_part_of_a_spec_is_valid(block: str) -> None:
    parse_spec(yaml.safe_dump(SPEC | yaml.safe_load(block), width=1000), PluginHost.discover())


def test_the_description_of_a_family_is_that_of_the_example(tmp_path: Path) -> None:
    (block,) = (block for block in blocks("yaml") if block.startswith(DESCRIPTION))
    (tmp_path / "twin.yaml").write_text(block)
    example = REPOSITORY / "examples/prunecast-family/src/prunecast_family/twin.yaml"
    assert read_family(tmp_path / "twin.yaml") == read_family(example)


def test_spec_errors_are_as_shown() -> None:
    lines = [line for block in blocks("console") for line in block.splitlines() if ".yaml:" in line]
    assert len(lines) == 2
    for line in lines:
        estimator = "os.system" if "os.system" in line else "sklearn.ensemble.ExtraTreesRegressor"
        options = "" if "os.system" in line else ", n_estimaters: 300"
        predictor = f"predictor: {{use: sklearn, estimator: {estimator}{options}}}\n"
        others = yaml.safe_dump({key: value for key, value in SPEC.items() if key != "predictor"}, width=1000)
        with pytest.raises(SpecError) as error:
            parse_spec(others + predictor, PluginHost.discover())
        [problem] = error.value.problems
        # The spec on the page has other lines before this one.
        assert re.sub(r"^\S+?:\d+:", "", line) == re.sub(r"^\S+?:\d+:", "", problem)


def test_the_predictor_of_the_page_passes_all_checks(package: Path) -> None:
    import acme_smoother

    verdicts = check_predictor(acme_smoother.Smoother)
    assert {verdict.outcome for verdict in verdicts} <= {"holds", "does not apply"}
    [entry] = acme_smoother.prunecast_predictors()
    assert entry.target == "acme_smoother:Smoother"


def test_the_searcher_of_the_page_passes_all_checks(package: Path) -> None:
    import acme_climb

    verdicts = check_searcher(acme_climb.Steps, {"startup": 50, "steps": 5, "neighbours": 20})
    assert {verdict.outcome for verdict in verdicts} <= {"holds", "does not apply"}
    [entry] = acme_climb.prunecast_searchers()
    assert entry.target == "acme_climb:Steps"


def test_the_package_of_the_page_builds(package: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [wheel.name for wheel in (package / "dist").iterdir()] == ["acme_smoother-1.0-py3-none-any.whl"]
