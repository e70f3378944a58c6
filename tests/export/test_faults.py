"""Whole exports under faults: what stood in the folder stands there after, or the new export is complete.

Every fault is a real one: a process killed at a change of a file or at a time, a disk that is full, a permission that
is taken away: 20 kills, 8 full disks and 4 lost permissions, times ``PRUNECAST_FAULTS`` where that is set.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import SUPPORT

from prunecast.export.deliver import NO_ORIGIN, folder_kind
from prunecast.export.huggingface import HuggingFace, HuggingFaceOptions
from prunecast.owned.folder import WORKPLACE, OwnedFolder

KIND = folder_kind(HuggingFace(HuggingFaceOptions()))
SCRIPT = str(SUPPORT / "export_under_fault.py")
FOREIGN = {"NOTES.md": "mine", "gguf/q8.gguf": "q"}

TIMES = int(os.environ.get("PRUNECAST_FAULTS", "1"))

# Every moment is a whole export.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Content = dict[str, bytes]


def start(folder: Path, seed: int, *fault: str, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder.parent)}
    command = [*before, sys.executable, SCRIPT, str(folder), str(seed), *fault]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def content(folder: Path) -> Content:
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if not name.startswith(WORKPLACE)}


class Place:
    """A folder with an export and files of others, and what it holds before and after a second export."""

    def __init__(self, outer: Path) -> None:
        self.folder = outer / "model"
        self._old = self._export(0)
        start_again = content(self.folder)
        self._new, self.changes, self.seconds = self._export(1)
        self.old, self.new = start_again, content(self.folder)

    def _export(self, seed: int) -> tuple[Path, int, float]:
        begun = time.monotonic()
        with start(self.folder, seed) as process:
            told = process.communicate()[0]
        assert process.returncode == 0, told
        for name, text in FOREIGN.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text)
        kept = self.folder.with_name(f"kept-{seed}")
        shutil.copytree(self.folder, kept)
        return kept, int(told.splitlines()[-1]), time.monotonic() - begun

    def restore(self) -> Path:
        shutil.rmtree(self.folder)
        shutil.copytree(self.folder.with_name("kept-0"), self.folder)
        return self.folder

    def assert_old_or_new(self, now: Content) -> None:
        assert now in (self.old, self.new)

    def assert_recovered(self) -> None:
        """At once the old, the new or nothing that loads; after the next call the old or the new, whole."""
        now = content(self.folder)
        assert now in (self.old, self.new) or "config.json" not in now
        OwnedFolder(KIND, self.folder).check(NO_ORIGIN)
        self.assert_old_or_new(content(self.folder))
        assert not (self.folder / WORKPLACE).exists() or not any((self.folder / WORKPLACE).iterdir())
        assert OwnedFolder(KIND, self.folder).is_whole({})


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    # Not in pytest's own folder, which no other user may enter.
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o777)
        yield Place(Path(outer))


def moments(place: Place, count: int) -> list[int]:
    """Changes at which to act: some of all, and some of the last, among which are the renames."""
    rng = random.Random(0)
    return [rng.randrange(place.changes) if n % 2 else place.changes - rng.randrange(1, 60) for n in range(count)]


def test_killed_at_changes_of_files(place: Place) -> None:
    for number in moments(place, 10 * TIMES):
        folder = place.restore()
        with start(folder, 1, "kill", str(number)) as process:
            process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)  # 0: it was through with a few changes less
        place.assert_recovered()


def test_killed_at_random_times(place: Place) -> None:
    rng = random.Random(1)
    for _ in range(10 * TIMES):
        folder = place.restore()
        with start(folder, 1) as process:
            time.sleep(rng.uniform(0.3, 1.0) * place.seconds)
            process.kill()
            process.communicate()
        place.assert_recovered()


def test_a_permission_taken_away(place: Place) -> None:
    # Permissions stop root only without this capability.
    without = () if os.getuid() else ("setpriv", "--inh-caps=-all", "--bounding-set=-dac_override")
    if without and shutil.which("setpriv") is None:
        pytest.skip("permissions do not stop root here")
    for number in moments(place, 4 * TIMES):
        folder = place.restore()
        with start(folder, 1, "forbid", str(number), before=without) as process:
            told, _ = process.communicate()
        assert process.returncode == 0 or told.count("\n") == 1, told
        folder.chmod(0o755)
        place.assert_recovered()


def test_a_full_disk_that_is_also_a_mount_point(place: Place) -> None:
    """The disk is a real one, of a size between that of the old export and that of both."""
    script = (
        'mount -t tmpfs -o size="$0"k tmpfs "$1" && cp -r "$2"/. "$1" && shift 2 && { "$@"; echo "rc $?"; } && '
        'rm -rf "$out" && cp -r "$folder" "$out"'
    )
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no mounts on this machine")
    folder = place.restore()
    out, kept = folder.with_name("out"), folder.with_name("kept-0")
    taken = sum(-(-len(file) // 4096) * 4 for file in place.old.values())
    weights = len(place.old["model.safetensors"]) // 1024
    rng = random.Random(2)
    endings = set()
    for number in range(8 * TIMES):
        # Half of the disks have room for the weights, so that it runs out after the question for it.
        size = taken + (rng.randrange(8 if number % 2 else weights + 4, taken + 8) if number else weights + 12)
        exporting = [sys.executable, SCRIPT, str(folder), "1"]
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, str(size), str(folder), str(kept), *exporting],
            env={**os.environ, "OMP_NUM_THREADS": "1", "out": str(out), "folder": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        *told, ending = done.stdout.splitlines()
        endings.add(ending)
        assert ending in ("rc 0", "rc 1"), done.stderr
        assert len(told) == 1
        assert content(out) == (place.new if ending == "rc 0" else place.old)
        assert not (out / WORKPLACE).exists()
    assert "rc 1" in endings
