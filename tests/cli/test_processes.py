"""The command line in subprocesses: exit codes, clean streams, and start-up without heavy imports."""

import json
import os
import subprocess
import sys

import pytest
from workplace import Workplace

LEARNING = ("torch", "transformers", "optuna", "xgboost", "datasets", "sklearn", "scipy")

LIGHT = """
import sys
from prunecast.cli import main
sys.argv = ["prunecast", *sys.argv[1:]]
try:
    main()
finally:
    loaded = sorted(name for name in {heavy!r} if name in sys.modules)
    print("loaded:", *loaded, file=sys.stderr)
"""


def loaded_by(workplace: Workplace, heavy: tuple[str, ...], *arguments: str, code: int = 0) -> list[str]:
    """Those of the ``heavy`` packages that a command imports that ends with an exit code."""
    process = subprocess.run(
        [sys.executable, "-c", LIGHT.format(heavy=heavy), *arguments],
        cwd=workplace.folder,
        env={**os.environ, "PRUNECAST_REGISTRY": "registry.db"},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, bool(process.stdout)) == (code, code == 0), process.stderr
    return process.stderr.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), ("registry", "--help"), ("registry", "query", "--help"), ("--version",)],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(workplace: Workplace, arguments: tuple[str, ...]) -> None:
    assert loaded_by(workplace, (*LEARNING, "numpy", "pydantic", "prunecast_plugins"), *arguments) == []


@pytest.mark.parametrize(
    "arguments",
    [("plugins", "list"), ("registry", "stats"), ("runs", "show", "1"), ("spec", "schema")],
    ids=" ".join,
)
def test_lookup_commands_import_no_machine_learning(continued: Workplace, arguments: tuple[str, ...]) -> None:
    assert loaded_by(continued, LEARNING, *arguments) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "missing.yaml"),
        ("run", "missing.yaml", "--dry-run"),
        ("run", "tiny.yaml", "--set", "space.mpl=1"),
        ("run", "tiny.yaml", "--set", "model.source=./gone"),
        ("run", "tiny.yaml", "--set", "model.source=./gone", "--dry-run"),
        ("spec", "validate", "missing.yaml"),
        ("export", "1", "out/again", "--registry", "missing.db"),
    ],
    ids=" ".join,
)
def test_errors_that_need_no_model_are_told_without_machine_learning(
    workplace: Workplace, arguments: tuple[str, ...]
) -> None:
    assert loaded_by(workplace, LEARNING, *arguments, code=1) == []


def test_a_run_prints_one_json_object_and_quiet_nothing_else(continued: Workplace) -> None:
    process = continued.start("run", "tiny.yaml", "--json", "--quiet", "--set", "export=null")
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "")
    assert json.loads(stdout)["evaluations"]["measured"] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("runs", "list", "--registry", "nothing.db"), 1), (("runs", "list", "--limit", "0"), 2), (("--version",), 0)],
)
def test_exit_codes_of_a_process(workplace: Workplace, arguments: tuple[str, ...], code: int) -> None:
    process = workplace.start(*arguments)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr
