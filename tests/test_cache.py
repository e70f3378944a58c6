"""Caches that cannot be written: a process goes on with a temporary folder, and one line names the variable."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunecast import cache
from prunecast.cache import allow_modules_of_models, cached
from prunecast.errors import ResourceError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    for function in (cache._warn_once, cache._temporary_folder):
        function.cache_clear()
    yield
    for function in (cache._warn_once, cache._temporary_folder):
        function.cache_clear()


@pytest.mark.parametrize("place", ["/proc/nope", "{tmp}/file", "{tmp}/file/below", "/dev/null", "~nobody-here/cache"])
def test_an_unwritable_cache_is_replaced_by_a_temporary_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    named = place.format(tmp=tmp_path)
    monkeypatch.setenv("PRUNECAST_CACHE", named)
    with caplog.at_level(logging.WARNING):
        path = cached("rankings", "a.npz")
        path.write_text("kept for now")
        assert cached("rankings", "a.npz") == path
        assert cached("moments", "b").parent.parent == path.parent.parent
    (line,) = caplog.messages
    assert line.startswith(f"warning: the cache {named} cannot be written (")
    assert line.endswith("set PRUNECAST_CACHE to a folder that can be written")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file"], "no folder called ~ appears"


def test_what_an_unwritable_cache_has_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rankings").mkdir()
    (tmp_path / "rankings" / "known.npz").touch()
    (tmp_path / "moments").touch()  # so that no folder of this name can be made, whoever runs this test
    monkeypatch.setenv("PRUNECAST_CACHE", str(tmp_path))
    assert cached("rankings", "known.npz") == tmp_path / "rankings" / "known.npz"
    assert cached("rankings", "new.npz") == tmp_path / "rankings" / "new.npz"
    assert caplog.messages == []
    assert not cached("moments", "new").is_relative_to(tmp_path)
    assert len(caplog.messages) == 1


def test_without_any_folder_to_write_to_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setenv("PRUNECAST_CACHE", "/proc/nope")
    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    with pytest.raises(ResourceError, match="set TMPDIR to one that can"):
        cached("rankings", "a.npz")


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_MODULES_CACHE", "XDG_CACHE_HOME"])
def test_code_of_models_is_copied_to_a_folder_that_can_be_written(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the function changes is given back: modules are looked for in one place for a process's life.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", "")
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("HF_MODULES_CACHE", "")
    monkeypatch.setenv(variable, str(tmp_path))
    allow_modules_of_models()
    assert os.environ["HF_MODULES_CACHE"] == ("" if variable != "HF_MODULES_CACHE" else str(tmp_path))
    monkeypatch.setenv(variable, "/proc/nope")
    allow_modules_of_models()
    assert Path(os.environ["HF_MODULES_CACHE"]).parent.is_dir()
    assert os.environ["HF_MODULES_CACHE"] != "/proc/nope"


def test_the_temporary_folder_goes_with_the_process(tmp_path: Path) -> None:
    code = "from prunecast.cache import cached; path = cached('a', 'b'); path.touch(); print(path)"
    environment = {**os.environ, "PRUNECAST_CACHE": "/proc/nope", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
