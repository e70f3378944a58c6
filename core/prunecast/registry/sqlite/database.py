"""The registry's file: opened only if it is a registry, brought up to date, and its troubles told in one line."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from sqlite_utils import Database

from prunecast.errors import RegistryError
from prunecast.registry.schema import migrations
from prunecast.registry.sqlite.file_systems import network_file_system

BUSY_SECONDS = 60.0
"""How long a write waits for other processes before it gives up."""

CACHE_KIBIBYTES = 128 * 1024
"""Pages kept in memory: the upper levels of every index of a registry of millions."""

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = slice(68, 72)

_NO_LOCKS = (
    "its file system cannot lock files, so processes could spoil each other's work; keep the registry on a local disk "
    "(--registry, or PRUNECAST_REGISTRY) and merge it from there"
)

_LOCK_TROUBLES = {
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
}

_TROUBLES = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then run again: everything measured so far is kept",
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for {BUSY_SECONDS:.0f} s; wait for it or stop it, "
    "then run again: everything measured so far is kept",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a copy of it, or move it away to start a new registry",
    sqlite3.SQLITE_NOTADB: "the file is damaged; restore a copy of it, or move it away to start a new registry",
    sqlite3.SQLITE_READONLY: "it is open for reading only, or its folder cannot be written; allow that, or copy it",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that file and folder may be read and written, or copy it",
    sqlite3.SQLITE_PROTOCOL: _NO_LOCKS,
    sqlite3.SQLITE_IOERR: "the disk reports an error; check it, then run again: everything measured so far is kept",
}


@contextmanager
def told_in_one_line(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system report about ``path`` into RegistryError; bugs keep their traceback."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        # The low byte is the primary code; the rest tells apart variants, most of which need the same remedy.
        trouble = _NO_LOCKS if code in _LOCK_TROUBLES else _TROUBLES.get(code & 0xFF)
        if trouble is None:
            raise
        raise RegistryError(f"{path}: {trouble} ({error})") from error
    except UnicodeEncodeError as error:
        raise RegistryError(f"{path}: {error.object!r} is no Unicode text and was not recorded; rename it") from error
    except OSError as error:
        raise RegistryError(f"{path}: {error.strerror}; name another file or make this one accessible") from error


def open_database(path: Path, readonly: bool) -> Database:
    """Open the registry at ``path``, made or upgraded if need be, as ``Registry.open`` describes."""
    with told_in_one_line(path):
        _refuse_unsuitable(path, readonly)
        if not readonly:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = connect_readonly(path) if readonly else connect_writable(path)
        database = Database(connection, execute_plugins=False)
        try:
            _bring_up_to_date(database, path, readonly)
        except BaseException:
            database.close()
            raise
    return database


def connect_readonly(path: Path) -> sqlite3.Connection:
    """Connection that cannot write.

    Reading a file in WAL mode wants to make a ``-shm`` file beside it. Where the folder forbids that and nobody is
    writing, the file is read as it is.
    """
    connection = _connect_uri(f"{path.absolute().as_uri()}?mode=ro")
    try:
        schema_version(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        cannot_open = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if not cannot_open or path.with_name(path.name + "-wal").exists():
            raise
        return _connect_uri(f"{path.absolute().as_uri()}?immutable=1")
    return connection


def connect_writable(path: Path) -> sqlite3.Connection:
    """Connection that can write, made with its file."""
    return _connect_uri(f"{path.absolute().as_uri()}?mode=rwc")


def copy_to(path: Path, copy: Path) -> None:
    """Copy a registry as it is read: with what a killed process has left in its write-ahead log."""
    with closing(connect_readonly(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _connect_uri(uri: str) -> sqlite3.Connection:
    # isolation_level=None: no transaction begins but by BEGIN IMMEDIATE.
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def schema_version(connection: sqlite3.Connection) -> int:
    """Schema version of the file; 0 if it is empty."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_unsuitable(path: Path, readonly: bool) -> None:
    if path.is_dir():
        raise RegistryError(f"{path}: is a folder; name a file in it, e.g. {path / 'registry.db'}")
    if not path.exists():
        if readonly:
            raise RegistryError(f"{path}: there is no registry; run a spec to make one, or name another file")
        return
    _refuse_foreign(path)
    if not readonly and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise RegistryError(f"{path}: file or folder cannot be written; allow that, or copy it and name the copy")


def _refuse_foreign(path: Path) -> None:
    # Looked at without SQLite, which would already recover or check-point a stranger's database.
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        return
    if not header.startswith(_MAGIC):
        raise RegistryError(f"{path}: is no SQLite file, or a damaged one; name another file, or move this one away")
    if int.from_bytes(header[_APPLICATION_ID_AT], "big") != migrations.APPLICATION_ID:
        raise RegistryError(f"{path}: is an SQLite file but no registry; name another file, or move this one away")


def _bring_up_to_date(database: Database, path: Path, readonly: bool) -> None:
    database.conn.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    # The version is in the header; this reads the schema too, so that damage to it shows now.
    database.conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
    found = schema_version(database.conn)
    if found > migrations.SCHEMA_VERSION:
        raise RegistryError(
            f"{path}: has schema version {found}, this prunecast knows versions up to {migrations.SCHEMA_VERSION}; "
            "upgrade prunecast (pip install --upgrade prunecast), or name another file"
        )
    if readonly:
        if found < migrations.SCHEMA_VERSION:
            raise RegistryError(
                f"{path}: has the old schema version {found}; run a spec with it once, which keeps a copy and "
                f"upgrades it to version {migrations.SCHEMA_VERSION}"
            )
        return
    if found < migrations.SCHEMA_VERSION:
        with immediate(database.conn):
            _upgrade(database, path)
    _use_journal(database.conn, "delete" if network_file_system(path) else "wal")
    database.conn.execute("PRAGMA foreign_keys = ON")


def _upgrade(database: Database, path: Path) -> None:
    # Looked at again under the lock: another process may have upgraded it meanwhile.
    found = schema_version(database.conn)
    if found == migrations.SCHEMA_VERSION:
        return
    if found:
        _refuse_dangling(database.conn, path)
        _back_up(path, found)
    migrations.migrate(database)


def _refuse_dangling(connection: sqlite3.Connection, path: Path) -> None:
    # An upgrade joins rows to what they refer to; one that refers to nothing would vanish.
    dangling = connection.execute("PRAGMA foreign_key_check").fetchone()
    if dangling is not None:
        raise RegistryError(
            f"{path}: damaged, a row of {dangling[0]} refers to a row of {dangling[2]} that is not there; restore a "
            "copy of it, or move it away to start a new registry"
        )


def _back_up(path: Path, found: int) -> None:
    names = (path.with_name(f"{path.name}.bak-v{found}{suffix}") for suffix in _suffixes())
    copy = next(name for name in names if not name.exists())
    try:
        copy_to(path, copy)
    except sqlite3.Error:
        copy.unlink(missing_ok=True)
        raise


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in count(2))


def _use_journal(connection: sqlite3.Connection, mode: str) -> None:
    # The change of mode takes an exclusive lock without waiting for it, whatever the timeout.
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != mode:
        try:
            connection.execute(f"PRAGMA journal_mode = {mode}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: committed at the end, undone by any error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has already undone it itself after a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
