"""Placing what llama.cpp says of some tokens, and what happens without it."""

import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from gguf_models import CONTEXT, text, written
from workplace import Workplace

from prunecast.errors import EngineMissingError
from prunecast.export.gguf import verify
from prunecast.export.gguf.verify import verify_gguf
from prunecast.measure.setup import Setup
from prunecast.plugins.exporter import Reference
from prunecast.plugins.host import PluginHost
from prunecast.run.texts import notes_of
from prunecast.spec.load import load_spec


def places(ids: str, tokens: str) -> list[str | None]:
    pytest.importorskip("xllamacpp")
    from prunecast.export.gguf.engine import aligned

    found = aligned([{"id": ord(token)} for token in ids], [ord(token) for token in tokens])
    return [entry and chr(entry["id"]) for entry in found]


def test_entries_are_placed_at_their_tokens() -> None:
    assert places("abc", "abc") == ["a", "b", "c"]
    assert places("ac", "abc") == ["a", None, "c"]


def test_what_could_belong_to_several_tokens_belongs_to_none() -> None:
    assert places("abc", "aabc") == [None, None, "b", "c"]
    assert places("", "ab") == [None, None]


def test_other_tokens_than_those_asked_for_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="did not follow"):
        places("xb", "ab")


def test_without_the_engine_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, pruned = written(tmp_path, "llama", "4x2+96*4")
    monkeypatch.setattr(verify, "ENGINE", "xllamacpp-that-is-not-there")
    with pytest.raises(EngineMissingError, match=r"^llama\.cpp is not installed to verify GGUF files: pip install"):
        verify_gguf(file.path, "f32", Reference(pruned.logits, tuple(text()), (), CONTEXT), lambda _: [])


def test_a_run_tells_before_it_measures_that_an_engine_is_missing(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = PluginHost.discover()
    with chdir(workplace.folder):
        setup = Setup(load_spec("tiny.yaml", host, ["export={path: out/x, targets: [gguf, huggingface]}"]), host)
        there = notes_of(setup)
        monkeypatch.setattr(verify, "ENGINE", "xllamacpp_that_is_not_there")
        missing = "llama.cpp is not installed to verify GGUF files: pip install xllamacpp_that_is_not_there"
        assert notes_of(setup) == [*there, f"gguf will be written and not compared: {missing}"]


def test_the_engine_runs_without_prunecast() -> None:
    pytest.importorskip("xllamacpp")
    script = Path(verify.__file__).with_name("engine.py")
    imports = f"import runpy, sys; runpy.run_path({str(script)!r}); print('prunecast' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
