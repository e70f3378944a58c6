"""Packages written by ``plugins new`` are complete: their tests pass unchanged."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from prunecast.cli.main import cli
from prunecast.plugins.families import families_of
from prunecast.plugins.host import FAMILY, KINDS, PluginHost


def new(kind: str, name: str, folder: Path) -> Path:
    arguments = ("plugins", "new", "--kind", kind, name, "--into", str(folder))
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.return_value == 0, result.stderr
    package = folder / f"prunecast-{name}"
    assert [Path(line) for line in result.stdout.splitlines()] == [package / each for each in written(kind, name)]
    return package


def written(kind: str, name: str) -> list[str]:
    module = name.replace("-", "_")
    of_family = ["__init__.py", f"{module}.yaml", f"modeling_{module}.py", "auto.py"]
    sources = of_family if kind == FAMILY else ["__init__.py", "py.typed"]
    placed = [f"src/prunecast_{module}/{source}" for source in sources]
    return ["pyproject.toml", "README.md", *placed, f"tests/test_{module}.py"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_entry_point_registers_a_plugin_of_the_kind_and_name(kind: str, tmp_path: Path) -> None:
    package = new(kind, f"my-{kind}", tmp_path)
    project = tomllib.loads((package / "pyproject.toml").read_text())
    [module] = project["project"]["entry-points"]["prunecast"].values()
    host = PluginHost()
    host.add_local(package / "src" / module / "__init__.py")
    registered = host.find(kind, f"my-{kind}")
    assert issubclass(registered.load(), KINDS[kind][1])
    assert registered.load().__name__ == f"My{kind.capitalize()}"
    assert registered.entry.trial.options or kind == "executor", "an executor needs none"


def test_a_family_has_its_names_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = new(FAMILY, "my-own", tmp_path)
    for file in package.rglob("*"):
        assert file.is_dir() or "lain" not in file.read_text(), "a name of the example"
    monkeypatch.syspath_prepend(package / "src")
    host = PluginHost()
    host.add_local(package / "src" / "prunecast_my_own" / "__init__.py")
    assert families_of(host)["my-own"].attention == "attention"
    modeling = importlib.import_module("prunecast_my_own.modeling_my_own")
    assert modeling.MyOwnConfig.model_type == "my-own"
    assert modeling.__file__ == str(package / "src/prunecast_my_own/modeling_my_own.py")


@pytest.mark.parametrize(
    "kind",
    ["space", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("predictor", "exporter", "executor", FAMILY))],
)
@pytest.mark.timeout(900)
def test_its_own_tests_pass(kind: str, tmp_path: Path) -> None:
    package = new(kind, "fresh", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=package, env=os.environ, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("name", "message"), [("My Plugin", "is not a valid plugin name"), ("twice", "exists: choose")]
)
def test_an_unusable_name_is_a_one_line_error(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "prunecast-twice").mkdir()
    arguments = ("plugins", "new", "--kind", "space", name, "--into", str(tmp_path))
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.return_value == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


LOCAL = """
from prunecast.plugins.examples.space import Steps
from prunecast.plugins.hookspecs import Entry, hookimpl


class Own(Steps):
    \"\"\"As the example does.\"\"\"


@hookimpl
def prunecast_search_spaces():
    return [Entry("own", f"{__name__}:Own", "As the example does")]
"""


def test_a_single_file_plugin_passes_all_checks(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(LOCAL)
    arguments = ("plugins", "check", str(file), "--plugin-dir", str(tmp_path))
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.return_value == 0, result.stdout
    assert result.stderr.endswith(" checks, 0 broken\n")
    assert "does not apply" not in result.stdout


def test_check_takes_the_name_of_a_plugin_as_show_does() -> None:
    result = CliRunner().invoke(cli, ("plugins", "check", "layerwise", "--json"), standalone_mode=False)
    assert result.return_value == 0, result.stdout
    assert {(row["kind"], row["name"]) for row in json.loads(result.stdout)} == {("space", "layerwise")}
    unknown = CliRunner().invoke(cli, ("plugins", "check", "layerwize"), standalone_mode=False)
    assert (unknown.return_value, unknown.stderr.count("\n")) == (1, 1)
    assert "(did you mean 'layerwise'?)" in unknown.stderr
