"""A folder of files of two owners: prunecast changes its own files only, all of them or none, whatever happens."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from prunecast.errors import ExportError
from prunecast.owned.folder import WORKPLACE, FolderKind, OwnedFolder
from prunecast.owned.manifest import Manifest, Origin

KIND = FolderKind(
    noun="export",
    manifest="list.json",
    entry="config",
    documents=frozenset({"README"}),
    reserved=("list.json", "config", "weights*"),
)
SMALL = Origin("small", {"spec": "1", "architecture": "a"}, "key of small")
OTHER_SIZE = Origin("small", {"spec": "1", "architecture": "b"}, "key of the other size")
OLD = {"config": "old", "README": "old card", "weights": "1" * 5000, "gone": "old only"}
NEW = {"config": "new", "README": "new card", "weights": "2" * 5000, "inner/added": "new only"}
FOREIGN = {"NOTES.md": "mine", "gguf/q8.gguf": "q", "inner.txt": "mine"}

Files = Mapping[str, str]


def write(path: Path, files: Files, origin: Origin = SMALL, overwrite: bool = False) -> bool:
    """Write files to a folder as an export does; True if anything was changed."""
    with OwnedFolder(KIND, path).staged() as staged:
        for name, content in files.items():
            (staged.path / name).parent.mkdir(exist_ok=True)
            (staged.path / name).write_text(content)
        return staged.publish(origin, {"size": len(files)}, overwrite)[1]


def put(path: Path, files: Files) -> None:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)


def content(path: Path) -> dict[str, str]:
    """All files of a folder but the manifest, an unfinished workplace included."""
    return {
        file.relative_to(path).as_posix(): file.read_text()
        for file in path.rglob("*")
        if file.is_file() and file != path / KIND.manifest
    }


def stamps(path: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in path.rglob("*")}


def refused(path: Path, files: Files, origin: Origin = SMALL, overwrite: bool = False) -> str:
    """Message of a refusal, which changes nothing."""
    before = stamps(path)
    with pytest.raises(ExportError) as caught:
        write(path, files, origin, overwrite)
    assert stamps(path) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder with an export and files of its reader."""
    path = tmp_path / "shared"
    write(path, OLD)
    put(path, FOREIGN)
    return path


# --------------------------------------------------------------------------------------------- one's own files only


def test_an_export_is_exchanged_and_files_of_others_stay(shared: Path) -> None:
    assert write(shared, NEW)
    assert content(shared) == {**NEW, **FOREIGN}


def test_the_same_result_rewrites_nothing(shared: Path) -> None:
    before = stamps(shared)
    assert not write(shared, OLD)
    assert stamps(shared) == before


def test_only_files_that_differ_are_rewritten(shared: Path) -> None:
    before = stamps(shared)
    assert write(shared, OLD | {"config": "other"})
    after = stamps(shared)
    assert {name for name in after if after[name] != before.get(name)} == {"config", "list.json", "shared"} - {"shared"}


def test_a_deleted_file_comes_back(shared: Path) -> None:
    (shared / "weights").unlink()
    assert OwnedFolder(KIND, shared).holding(SMALL) is None
    assert write(shared, OLD)
    assert content(shared) == {**OLD, **FOREIGN}


def test_a_file_no_longer_written_goes_unless_it_was_edited(shared: Path) -> None:
    (shared / "gone").write_text("edited")
    write(shared, NEW)
    assert content(shared) == {**NEW, **FOREIGN, "gone": "edited"}


def test_an_edited_file_is_replaced_only_with_overwrite(shared: Path) -> None:
    (shared / "weights").write_text("edited")
    assert "weights changed since the export was written" in refused(shared, NEW)
    assert OwnedFolder(KIND, shared).holding(SMALL) is None
    with pytest.raises(ExportError, match="weights changed since"):
        OwnedFolder(KIND, shared).check(SMALL)
    write(shared, NEW, overwrite=True)
    assert content(shared) == {**NEW, **FOREIGN}


def test_an_edited_document_stays_and_keeps_nothing_from_being_written(shared: Path) -> None:
    (shared / "README").write_text("my card")
    OwnedFolder(KIND, shared).check(SMALL)
    assert OwnedFolder(KIND, shared).holding(SMALL) is not None
    write(shared, NEW)
    assert content(shared) == {**NEW, **FOREIGN, "README": "my card"}
    write(shared, NEW, overwrite=True)
    assert content(shared) == {**NEW, **FOREIGN}


@pytest.mark.parametrize("part", ["spec", "architecture"])
def test_another_subject_is_replaced_only_with_overwrite(shared: Path, part: str) -> None:
    other = Origin("small", {**SMALL.subject, part: "other"})
    message = refused(shared, NEW, other)
    assert f"holds the export of run 'small', of another {part}" in message
    assert "--overwrite" in message
    with pytest.raises(ExportError, match=f"another {part}"):
        OwnedFolder(KIND, shared).check(other)
    write(shared, NEW, other, overwrite=True)
    assert content(shared) == {**NEW, **FOREIGN}


def test_what_is_not_known_yet_is_not_compared(shared: Path) -> None:
    OwnedFolder(KIND, shared).check(Origin("small", {"spec": "1"}))


@pytest.mark.parametrize("name", ["config", "weights-of-mine"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_that_would_be_read_with_the_export_are_refused_early(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    put(tmp_path, {name: "precious"})
    with pytest.raises(ExportError, match=name):
        OwnedFolder(KIND, tmp_path).check(SMALL, overwrite)
    assert content(tmp_path) == {name: "precious"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_of_others_in_place_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    put(tmp_path, {"README": "years of work"})
    assert "README of another origin" in refused(tmp_path, NEW, overwrite=overwrite)
    assert content(tmp_path) == {"README": "years of work"}


def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights" / "inside").mkdir(parents=True)
    assert "weights of another origin" in refused(tmp_path, OLD)
    (tmp_path / "weights" / "inside").rmdir()
    (tmp_path / "weights").rmdir()
    os.mkfifo(tmp_path / "gone")
    assert "gone of another origin" in refused(tmp_path, OLD)


def test_a_manifest_that_is_none_makes_no_folder_an_export(tmp_path: Path) -> None:
    put(tmp_path, {KIND.manifest: "{}", "config": "precious"})
    assert "list.json" in refused(tmp_path, {"weights": "1"})
    with pytest.raises(ExportError, match=r"config, list\.json of another origin"):
        OwnedFolder(KIND, tmp_path).check(SMALL, overwrite=True)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../outside", "..\\outside", "C:outside", "a\x1b[2J"]
)
def test_a_manifest_that_lists_files_elsewhere_is_none(shared: Path, name: str) -> None:
    listed = json.loads((shared / KIND.manifest).read_text())
    listed["files"][name] = "0" * 64
    (shared / KIND.manifest).write_text(json.dumps(listed))
    assert Manifest.read(shared / KIND.manifest) is None


def test_a_link_to_a_folder_elsewhere_leads_no_deletion_there(shared: Path, tmp_path: Path) -> None:
    write(shared, NEW)
    elsewhere = tmp_path / "elsewhere"
    (shared / "inner").rename(elsewhere)
    (shared / "inner").symlink_to(elsewhere, target_is_directory=True)
    write(shared, OLD)
    assert content(elsewhere) == {"added": "new only"}


# ------------------------------------------------------------------------------------------------------------ places


def test_the_current_folder_stays_the_same_folder(shared: Path) -> None:
    before = shared.stat().st_ino
    write(shared, NEW)
    assert shared.stat().st_ino == before


def test_new_files_get_the_group_and_mode_of_a_shared_folder(shared: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives a folder to any group")
    os.chown(shared, -1, 4321)
    shared.chmod(0o2775)
    before = os.umask(0o002)
    try:
        write(shared, NEW)
    finally:
        os.umask(before)
    assert {(shared / name).stat().st_gid for name in NEW} == {4321}
    assert {stat.S_IMODE((shared / name).stat().st_mode) for name in NEW} == {0o664}


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(ExportError, match="is a file, no folder"):
            OwnedFolder(KIND, path).check(SMALL)
        with pytest.raises(ExportError, match="cannot be written"):
            write(path, OLD)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_failure_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    def interrupted() -> None:
        with OwnedFolder(KIND, tmp_path / "new" / "folder").staged() as staged:
            (staged.path / "weights").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_room_is_asked_for_only_if_something_is_to_be_written(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"free, the export needs about 1,000,000,000 GB: free some space"):
        OwnedFolder(KIND, tmp_path / "a" / "new").check_room(SMALL, 10**18)
    OwnedFolder(KIND, shared).check_room(SMALL, 10**18)
    with pytest.raises(ExportError, match="needs about"):
        OwnedFolder(KIND, shared).check_room(OTHER_SIZE, 10**18)


def test_two_processes_do_not_write_to_one_folder_at_a_time(shared: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from prunecast.owned.folder import FolderKind, OwnedFolder\n"
        "with OwnedFolder(FolderKind('export', 'list.json', 'config'), Path(sys.argv[1])).staged():\n"
        "    print('inside', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(shared)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "inside\n"
        with pytest.raises(ExportError, match="another process is writing there"):
            write(shared, NEW)
        other.kill()
    assert write(shared, NEW)
    assert content(shared) == {**NEW, **FOREIGN}


# ------------------------------------------------------------------------------------------------------------ faults

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod")


def is_change(event: str, arguments: tuple[object, ...]) -> bool:
    """True for an event of the interpreter that is about to change a file."""
    writing = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    return writing or event in CHANGES


def at_change(number: int, fault: Callable[[], None]) -> list[int]:
    """Let a fault happen just before the change of this number, in this process and for its whole life."""
    seen: list[int] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if is_change(event, arguments):
            seen.append(len(seen))
            if len(seen) == number + 1:
                fault()

    sys.addaudithook(hook)
    return seen


def in_child(work: Callable[[], int | None]) -> int:
    """Result of a function in a forked process: its number, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work() or 0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(number: int, work: Callable[[], object]) -> int:
    """Do some work in a process that is killed just before the change of this number."""

    def killed() -> None:
        at_change(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        work()

    return in_child(killed)


def number_of_changes(path: Path) -> int:
    """Number of changes that writing ``NEW`` over ``OLD`` takes."""

    def work() -> int:
        seen = at_change(-1, lambda: None)
        write(path, NEW)
        return len(seen)

    return in_child(work)


@pytest.fixture
def moments(shared: Path, tmp_path: Path) -> range:
    write(copy := tmp_path / "copy", OLD)
    put(copy, FOREIGN)
    return range(number_of_changes(copy))


def without_workplace(files: Files) -> dict[str, str]:
    return {name: text for name, text in files.items() if not name.startswith(WORKPLACE)}


def test_a_kill_at_any_change_leaves_the_old_the_new_or_what_the_next_call_completes(
    shared: Path, moments: range
) -> None:
    old, new = {**OLD, **FOREIGN}, {**NEW, **FOREIGN}
    seen = set()
    assert len(moments) > 25
    for number in moments:
        assert kill_at(number, lambda: write(shared, NEW)) == -signal.SIGKILL
        after = without_workplace(content(shared))
        # In between nothing reads the folder: its entry file is away.
        assert after in (old, new) or "config" not in after
        OwnedFolder(KIND, shared).check(SMALL)
        assert content(shared) in (old, new)
        assert OwnedFolder(KIND, shared).is_whole({})
        seen.add((after == old, after == new, content(shared) == old))
        write(shared, OLD)
    assert seen == {(True, False, True), (True, False, False), (False, False, False), (False, True, False)}


def test_a_kill_never_leaves_a_mixture_that_is_read_though_the_entry_file_is_the_same(
    shared: Path, moments: range
) -> None:
    same_entry = NEW | {"config": OLD["config"]}
    old, new = {**OLD, **FOREIGN}, {**same_entry, **FOREIGN}
    states = set()
    for number in moments[-36:]:
        kill_at(number, lambda: write(shared, same_entry))
        after = without_workplace(content(shared))
        assert after in (old, new) or "config" not in after
        states.add("config" in after)
        OwnedFolder(KIND, shared).check(SMALL)
        assert content(shared) in (old, new)
        write(shared, OLD)
    assert states == {True, False}


def test_a_kill_while_a_killed_exchange_is_completed_loses_nothing(shared: Path, moments: range) -> None:
    new = {**NEW, **FOREIGN}
    middle = next(n for n in moments if _is_halfway(shared, n))
    for number in range(40):
        kill_at(middle, lambda: write(shared, NEW))
        status = kill_at(number, lambda: OwnedFolder(KIND, shared).check(SMALL))
        OwnedFolder(KIND, shared).check(SMALL)
        assert content(shared) == new
        write(shared, OLD)
        if status == 0:
            break
    assert number > 5


def _is_halfway(path: Path, number: int) -> bool:
    """True if a kill at this change leaves neither the old nor the new files. The folder is left with the old ones."""
    kill_at(number, lambda: write(path, NEW))
    halfway = without_workplace(content(path)) not in ({**OLD, **FOREIGN}, {**NEW, **FOREIGN})
    OwnedFolder(KIND, path).check(SMALL)
    write(path, OLD)
    return halfway


def test_an_interruption_at_any_change_is_undone_at_once(shared: Path, moments: range) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def work(number: int) -> int:
        at_change(number, interrupted)
        try:
            write(shared, NEW)
        except KeyboardInterrupt:
            return 3
        return 0

    for number in moments:
        status = in_child(lambda number=number: work(number))
        after = without_workplace(content(shared))
        assert after in ({**OLD, **FOREIGN}, {**NEW, **FOREIGN}), number
        assert status == (3 if after == {**OLD, **FOREIGN} else status)
        OwnedFolder(KIND, shared).check(SMALL)
        write(shared, OLD)


@pytest.mark.parametrize("limit", [0, 10, 100, 500, 4999])
def test_a_full_disk_leaves_the_old_files(shared: Path, limit: int) -> None:
    resource = pytest.importorskip("resource")

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(ExportError, match="cannot be written"):
            write(shared, NEW)
        return 0

    assert in_child(work) == 0
    assert content(shared) == {**OLD, **FOREIGN}


def test_a_permission_taken_away_at_any_change_leaves_the_old_files(moments: range) -> None:
    """The folder becomes read-only in the middle; afterwards, and once it is writable, it holds the old files."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user, whom permissions stop")
    with _open_to_all() as path:
        for number in moments:
            write(path, OLD, overwrite=True)
            put(path, FOREIGN)
            for file in (path, *path.rglob("*")):
                os.chown(file, 65534, 65534)
                file.chmod(0o777 if file.is_dir() else 0o666)

            def work(number: int = number) -> int:
                root = os.open(path, os.O_RDONLY)
                os.setegid(65534)
                os.seteuid(65534)
                at_change(number, lambda: os.fchmod(root, 0o555))
                try:
                    write(path, NEW)
                except ExportError as error:
                    return 1 if "cannot be written" in str(error) else 2
                return 0

            status = in_child(work)
            after = without_workplace(content(path))
            if status == 1:
                assert after == {**OLD, **FOREIGN}, number
            assert after in ({**OLD, **FOREIGN}, {**NEW, **FOREIGN}) or "config" not in after
            path.chmod(0o777)
            OwnedFolder(KIND, path).check(SMALL)
            assert content(path) in ({**OLD, **FOREIGN}, {**NEW, **FOREIGN})
            assert OwnedFolder(KIND, path).is_whole({})


@contextmanager
def _open_to_all() -> Iterator[Path]:
    """A folder under one that every user may enter, unlike those of pytest."""
    import tempfile

    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        path = Path(outer) / "shared"
        path.mkdir()
        yield path


def test_a_file_put_in_the_way_of_a_killed_exchange_is_told_and_kept(shared: Path, moments: range) -> None:
    middle = next(n for n in moments if _is_halfway(shared, n))
    kill_at(middle, lambda: write(shared, NEW))
    (shared / "config").write_text("precious")
    with pytest.raises(ExportError, match="config is in the way of an export that was killed"):
        OwnedFolder(KIND, shared).check(SMALL)
    (shared / "config").rename(shared / "mine")
    OwnedFolder(KIND, shared).check(SMALL)
    assert content(shared) == {**NEW, **FOREIGN, "mine": "precious"}
