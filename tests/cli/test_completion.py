"""Completion by shells, as click asks for it, and by a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from places import SHIPPED_REGISTRY

from prunecast.cli.main import cli


def completed(line: str, incomplete: str, registry: str = str(SHIPPED_REGISTRY)) -> list[str]:
    """Values that are offered after ``prunecast LINE``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNECAST_REGISTRY", registry)
        shell = ShellComplete(cli, {}, "prunecast", "_PRUNECAST_COMPLETE")
        found = shell.get_completions(line.split(), incomplete)
    return [item.value for item in found if item.type == "plain"]


@pytest.mark.parametrize(
    ("line", "incomplete", "some"),
    [
        ("run", "quick", ["quickstart"]),
        ("spec validate", "paper", ["paper", "paper-smollm2"]),
        ("run quickstart --executor", "p", ["processes"]),
        ("predict x --predictor", "g", ["gbdt", "gp"]),
        ("export mine out --target", "", ["huggingface", "gguf", "stock"]),
        ("plugins show --kind searcher", "t", ["tpe"]),
        ("plugins check", "lay", ["layerwise"]),
        ("registry best", "ptb.v", ["ptb.validation.kl", "ptb.validation.ppl"]),
        ("registry pareto parameters", "ptb.t", ["ptb.test.ppl"]),
        ("registry query --run", "smollm2-85", ["smollm2-85"]),
        ("registry metrics --model", "gemma", ["gemma3-270m"]),
        ("runs show", "7", ["77"]),
        ("runs compare 83", "8", ["84"]),
    ],
)
def test_names_that_exist_are_offered(line: str, incomplete: str, some: list[str]) -> None:
    found = completed(line, incomplete)
    assert set(some) <= set(found)
    assert all(name.startswith(incomplete) for name in found)
    assert len(found) == len(set(found))


def test_files_are_offered_in_the_place_of_a_spec() -> None:
    shell = ShellComplete(cli, {}, "prunecast", "_PRUNECAST_COMPLETE")
    assert "file" in {item.type for item in shell.get_completions(["run"], "mine")}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("line", "found"), [("run qui", "quickstart"), ("runs sh", "show"), ("doctor mod", "")])
def test_bash_offers_what_the_script_of_click_leaves_of_it(line: str, found: str) -> None:
    """Outside of a real completion, compopt fails, which the script does not mind."""
    words = line.split()
    code = f"""
        eval "$(_PRUNECAST_COMPLETE=bash_source prunecast)"
        COMP_WORDS=(prunecast {line}); COMP_CWORD={len(words)}
        _prunecast_completion prunecast; echo "${{COMPREPLY[@]}}"
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    done = subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == found


@pytest.mark.parametrize("registry", ["none.db", os.devnull, __file__])
def test_nothing_is_offered_and_nothing_printed_without_a_registry(registry: str) -> None:
    environment = os.environ | {
        "COMP_WORDS": f"prunecast registry best --registry {registry} w",
        "COMP_CWORD": "5",
        "_PRUNECAST_COMPLETE": "bash_complete",
    }
    code = "from prunecast.cli.main import cli; cli.main(prog_name='prunecast')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
