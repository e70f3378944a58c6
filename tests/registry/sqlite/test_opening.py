"""Unusable files are refused, unchanged, with a one-line error that names the file and a remedy."""

import os
import shutil
import sqlite3
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from places import RELEASED_REGISTRIES
from registry_samples import architecture, measurements, process, setting, start

from prunecast.errors import RegistryError
from prunecast.registry.schema import migrations
from prunecast.registry.sqlite.database import one_line_errors
from prunecast.registry.store import Registry


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A registry of 200 evaluations, closed."""
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        run = start(registry)
        for number in range(200):
            registry.record(run, "sample", setting(), architecture(number), measurements(31.5), 1.0, "cpu")
    return path


def assert_refused(path: Path, readonly: bool, message: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(RegistryError, match=message) as refused:
        Registry.open(path, readonly)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert [other.name for other in path.parent.iterdir() if other.name.startswith(f"{path.name}.bak")] == []


def text_file(path: Path) -> None:
    path.write_text("model: {source: smollm2-135m}\n" * 10)


def short_file(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
        connection.commit()


def newer_registry(path: Path) -> None:
    Registry.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {migrations.SCHEMA_VERSION + 1}")


def registry_with_damaged_schema(path: Path) -> None:
    Registry.open(path).close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text_file, "no SQLite file"),
        (short_file, "no registry"),
        (foreign_database, "no registry"),
        (newer_registry, r"upgrade prunecast"),
        (registry_with_damaged_schema, "damaged"),
        (Path.mkdir, "is a folder"),
    ],
)
def test_an_unusable_file_is_refused_and_not_changed(
    tmp_path: Path, make: Callable[[Path], None], message: str, readonly: bool
) -> None:
    path = tmp_path / "file.db"
    make(path)
    assert_refused(path, readonly, message)


def test_a_missing_file_is_created_only_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "registry.db"
    with pytest.raises(RegistryError, match="there is no registry"):
        Registry.open(path, readonly=True)
    assert not path.parent.exists()
    Registry.open(path).close()
    Registry.open(path, readonly=True).close()


def test_an_empty_file_becomes_a_registry(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.touch()
    with Registry.open(path) as registry:
        assert registry.runs() == []


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "50%.db", "#1.db", "größe.db"])
def test_special_characters_in_file_names_are_literal(tmp_path: Path, name: str) -> None:
    with Registry.open(tmp_path / name) as registry:
        start(registry)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with Registry.open(tmp_path / name, readonly=True) as registry:
        assert len(registry.runs()) == 1


def test_damage_found_while_reading_is_a_one_line_error(filled: Path) -> None:
    content = bytearray(filled.read_bytes())
    with closing(sqlite3.connect(filled)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metric_values'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content[(page - 1) * size : page * size] = b"\x55" * size
    filled.write_bytes(content)
    with Registry.open(filled, readonly=True) as registry:
        with pytest.raises(RegistryError, match="the file is damaged"):
            registry.lookup(setting(), [architecture(number) for number in range(200)])
        with pytest.raises(RegistryError, match="the file is damaged"):
            list(registry.rows("SELECT * FROM metric_measurements"))
    assert filled.read_bytes() == bytes(content)


def test_a_readonly_registry_refuses_writes_in_one_line(filled: Path) -> None:
    before = filled.read_bytes()
    with Registry.open(filled, readonly=True) as registry, pytest.raises(RegistryError, match="reading only"):
        start(registry)
    assert filled.read_bytes() == before


@pytest.fixture
def anyones_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's folders."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(check: Callable[[Path], None], path: Path) -> None:
    """Run a check as a user without root's rights."""
    if os.getuid() == 0:
        os.setuid(65534)
    check(path)


def refuse_writing(path: Path) -> None:
    assert_refused(path, False, "cannot be written|Permission denied")


def read(path: Path) -> None:
    with Registry.open(path, readonly=True) as registry:
        assert registry.lookup(setting(), [architecture(5)])


@pytest.mark.parametrize("mode", [0o444, 0o644])
@pytest.mark.parametrize("check", [refuse_writing, read])
def test_a_file_in_a_write_protected_folder_opens_for_reading_only(
    filled: Path, anyones_folder: Path, check: Callable[[Path], None], mode: int
) -> None:
    path = anyones_folder / "registry.db"
    shutil.copy(filled, path)
    path.chmod(mode)
    anyones_folder.chmod(0o555)
    child = process(as_nobody, check, path)
    child.join()
    assert child.exitcode == 0


def test_a_registry_cannot_be_created_in_a_write_protected_folder(anyones_folder: Path) -> None:
    anyones_folder.chmod(0o555)
    child = process(as_nobody, refuse_creation, anyones_folder / "registry.db")
    child.join()
    assert child.exitcode == 0


def refuse_creation(path: Path) -> None:
    assert_refused(path, False, "cannot be opened")
    assert not path.exists()


def test_every_connection_checks_foreign_keys_and_uses_the_wal(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "registry.db") as registry:
        for pragma, value in (
            ("foreign_keys", 1),
            ("journal_mode", "wal"),
            ("user_version", migrations.SCHEMA_VERSION),
        ):
            assert registry.database.conn.execute(f"PRAGMA {pragma}").fetchone() == (value,)
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            registry.record(99, "sample", setting(), architecture(1), measurements(31.5), 1.0, "cpu")


def mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    """Replace the list of mounted file systems by ext4 at the root and one of this kind at ``folder``."""
    partition = namedtuple("partition", "device mountpoint fstype opts")
    partitions = [partition("/dev/sda", "/", "ext4", "rw"), partition("server:/x", str(folder), kind, "rw")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: partitions)


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        *((kind, True) for kind in ("nfs4", "cifs", "fuse.sshfs", "lustre", "9p", "NFS")),
        *((kind, False) for kind in ("ext4", "fuse.ntfs-3g", "apfs", "overlay", "tmpfs")),
    ],
)
def test_network_file_systems_get_the_delete_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, network: bool
) -> None:
    mounted(monkeypatch, tmp_path, kind)
    path = tmp_path / "deeper" / "registry.db"
    with Registry.open(path) as registry:
        assert next(registry.rows("PRAGMA journal_mode"))["journal_mode"] == ("delete" if network else "wal")
        registry.record(start(registry), "sample", setting(), architecture(1), measurements(31.5), 1.0, "cpu")
        beside = {file.name for file in path.parent.iterdir()}
        assert ("registry.db-shm" in beside) is not network
    with Registry.open(path, readonly=True) as registry:
        assert registry.lookup(setting(), [architecture(1)])


def test_a_registry_moved_to_a_network_folder_changes_its_journal(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(monkeypatch, filled.parent, "nfs4")
    with Registry.open(filled) as registry:
        assert next(registry.rows("PRAGMA journal_mode"))["journal_mode"] == "delete"
        assert len(registry.lookup(setting(), [architecture(number) for number in range(200)])) == 200


def test_a_file_system_without_locks_is_a_one_line_error(tmp_path: Path) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK
    message = r"cannot lock files.*keep the registry on a local disk"
    with pytest.raises(RegistryError, match=message), one_line_errors(tmp_path / "registry.db"):
        raise error


def upgrade_without_room(path: Path) -> None:
    """Open an old registry with files limited to 16 KiB, to imitate a full disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))
    assert_refused(path, False, "disk")


def test_an_upgrade_on_a_full_disk_leaves_the_old_registry(tmp_path: Path) -> None:
    path = Path(shutil.copy(RELEASED_REGISTRIES / "v2.db", tmp_path / "registry.db"))
    child = process(upgrade_without_room, path)
    child.join()
    assert child.exitcode == 0
    Registry.open(path).close()
