"""Consoles and pipes that cannot take what is printed: nothing fails, and nothing is lost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prunecast.registry import Registry

NAME = "caf\u00e9 \u2019 \u4e2d \U0001f600"


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """A folder with a registry of one run, whose name few encodings have."""
    with Registry.open(tmp_path / "registry.db") as registry:
        run = registry.start_run("a" * 32, NAME, '{"name": "x"}', f"name: {NAME}\n").id
        registry.finish_run(run, "failed", None, f"no {NAME}")
    return tmp_path


def prunecast(
    folder: Path, *arguments: str, before: Callable[[], None] | None = None, **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "prunecast", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONUTF8": "0", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=before,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("encoding", "command"),
    [("cp1252", "runs list"), ("latin-1:strict", "runs show 1"), ("shift_jis", "runs list"), ("utf-8", "runs show 1")],
)
def test_a_character_that_the_console_lacks_is_escaped(listing: Path, encoding: str, command: str) -> None:
    done = prunecast(listing, *command.split(), PYTHONIOENCODING=encoding)
    name = encoding.partition(":")[0]
    assert (done.returncode, done.stderr) == (0, b"")
    assert NAME.encode(name, "backslashreplace") in done.stdout


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_json_stays_json_in_any_encoding(listing: Path, encoding: str) -> None:
    done = prunecast(listing, "runs", "list", "--json", PYTHONIOENCODING=encoding)
    # click writes UTF-8 where a stream claims to be ASCII
    assert json.loads(done.stdout.decode("utf-8" if encoding == "ascii" else encoding))[0]["name"] == NAME


def test_an_error_can_be_printed_anywhere(listing: Path) -> None:
    for environment in ({"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}):
        done = prunecast(listing, "runs", "show", f"no {NAME}", **environment)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
        assert done.stderr.startswith(b"error: registry.db: no run has the id, name or key")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_are_no_error(listing: Path, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    before = (listing / "registry.db").read_bytes()
    done = prunecast(listing, "runs", "list", before=close)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (listing / "registry.db").read_bytes() == before


def test_a_reader_that_goes_away_causes_no_traceback(listing: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, "-m", "prunecast", "runs", "list"], cwd=listing, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (1, b"")
