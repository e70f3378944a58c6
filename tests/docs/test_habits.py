"""Files about the project agree with it: version, licence, and the checks that hosts and hooks run."""

import tomllib
from typing import Any

import pytest
import yaml
from places import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def test_the_changelog_has_the_version() -> None:
    assert f"\n## [{PROJECT['version']}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_is_of_this_version() -> None:
    citation = read_yaml("CITATION.cff")
    stated = {name: str(citation[name]) for name in ("title", "version", "license")}
    assert stated == {"title": PROJECT["name"], "version": PROJECT["version"], "license": PROJECT["license"]}
    assert citation["references"][0]["url"] == PROJECT["urls"]["Paper"]


def test_the_workflow_runs_all_checks() -> None:
    steps = read_yaml(".github/workflows/ci.yml")["jobs"]["ci"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]
    [python] = [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")]
    assert PROJECT["requires-python"] == f">={python}"


@pytest.mark.parametrize("hook", read_yaml(".pre-commit-config.yaml")["repos"][0]["hooks"], ids=lambda hook: hook["id"])
def test_a_hook_runs_what_make_lint_runs(hook: dict[str, Any]) -> None:
    lint = (REPOSITORY / "Makefile").read_text(encoding="utf-8").replace("$(BIN)", ".venv/bin")
    assert hook["entry"].removesuffix(" --fix") in lint
