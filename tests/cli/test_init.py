"""``prunecast init``: specs that validate, run in their time, and say what they are."""

import json
import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_folders import MODELS, save_model
from saved_models import edit_config
from workplace import Outcome, Workplace

from prunecast.models.source import ALIASES


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every model of ``model_folders``. Read-only."""
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        save_model(folder, name)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder; the only text at hand is that of Python."""
    monkeypatch.delenv("PRUNECAST_DATA", raising=False)
    return Workplace(tmp_path)


def written(outcome: Outcome) -> dict[str, Any]:
    """The spec on stdout."""
    assert outcome.code == 0, outcome.stderr
    spec: dict[str, Any] = yaml.safe_load(outcome.stdout)
    return spec


def refused(workplace: Workplace, *arguments: str) -> str:
    """The one line of an ``init`` that fails with 1, prints no spec and writes nothing."""
    before = sorted(workplace.folder.rglob("*"))
    outcome = workplace.prunecast("init", *arguments)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert sorted(workplace.folder.rglob("*")) == before
    [line] = outcome.stderr.splitlines()
    return line


def assert_fits(workplace: Workplace, minutes: float) -> dict[str, Any]:
    """``spec.yaml`` is valid, and its dry run is within the time; returns the plan."""
    valid = workplace.prunecast("spec", "validate", "spec.yaml")
    assert (valid.code, valid.stderr) == (0, "")
    planned = workplace.prunecast("run", "spec.yaml", "--dry-run", "--json")
    assert planned.code == 0, planned.stderr
    plan: dict[str, Any] = planned.json
    assert 0 < plan["seconds"] <= 60 * minutes
    return plan


@pytest.mark.parametrize("name", MODELS)
def test_specs_of_all_kinds_of_models_are_valid_and_in_time(here: Workplace, models: Path, name: str) -> None:
    outcome = here.prunecast("init", str(models / name), "--output", "spec.yaml")
    assert outcome.code == 0, outcome.stderr
    plan = assert_fits(here, 30)
    spec = yaml.safe_load((here.folder / "spec.yaml").read_text())
    config = json.loads((models / name / "config.json").read_text())
    context = config.get("max_position_embeddings") or config["n_positions"]
    [window] = {use["context"] for use in [*spec["evaluators"], *spec["verify"]["evaluators"]]}
    assert {text["tokens"] for text in spec["pruner"]["calibration"]} == {window}
    assert window == 512 <= context or window + (name == "begins") <= context < 2 * window + (name == "begins")
    assert [step["stage"] for step in plan["steps"]][:3] == ["dense", "pairs", "round 1"]


@pytest.mark.slow
@pytest.mark.parametrize("alias", ["smollm2-135m", "gemma3-270m"])
def test_specs_of_real_models_are_valid_and_in_time(here: Workplace, alias: str) -> None:
    try:
        version(ALIASES[alias][0])
    except (KeyError, PackageNotFoundError):
        pytest.skip(f"{alias} is not installed")
    assert here.prunecast("init", alias, "--output", "spec.yaml", "--minutes", "240").code == 0
    assert_fits(here, 240)
