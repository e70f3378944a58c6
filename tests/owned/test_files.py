"""Single files: their mode, their wholeness and their digests."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from prunecast.owned.files import NOT_A_FILE, digest, give_usual_mode, written_whole


@pytest.fixture(params=[0o002, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_gets_the_mode_of_the_umask_whatever_its_writer_sets(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "cache" / "moments.safetensors"
    with written_whole(path) as unfinished:
        save_file({"x": np.ones(3)}, unfinished)
    assert mode(path) == 0o666 & ~umask


def test_all_files_of_a_folder_get_the_mode_of_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "inner").mkdir()
    files = [tmp_path / "weights.safetensors", tmp_path / "inner" / "more.safetensors"]
    for file in files:
        save_file({"x": np.ones(3)}, file)
    give_usual_mode(tmp_path)
    assert [mode(file) for file in files] == [0o666 & ~umask] * 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inner", "more.safetensors", "weights.safetensors"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted() -> None:
        with written_whole(path) as unfinished:
            unfinished.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"file": "old"}


def test_digests_are_those_of_the_hub_and_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("absent")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    assert digest(tmp_path / "file") == digest(tmp_path / "link") == hashlib.sha256(b"abc").hexdigest()
    assert digest(tmp_path / "absent") is None
    assert [digest(tmp_path / name) for name in ("dangling", "folder", "pipe")] == [NOT_A_FILE] * 3
