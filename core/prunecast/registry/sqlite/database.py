"""The SQLite file of a registry: opening, upgrading, transactions, read-only access, and errors as one line."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from sqlite_utils import Database

from prunecast.errors import RegistryError
from prunecast.registry.schema import migrations
from prunecast.registry.schema.views import create_views
from prunecast.registry.sqlite.defences import (
    MOST_CELL_BYTES,
    check_schema,
    guard,
    missing_views,
    oversized_columns,
)
from prunecast.registry.sqlite.file_systems import network_file_system

BUSY_SECONDS = 60.0
"""Time a write waits for other processes before it fails."""

CACHE_KIBIBYTES = 128 * 1024
"""Size of the page cache in KiB: room for the upper levels of every index of a registry of millions."""

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = slice(68, 72)

_NO_LOCKS = (
    "its file system cannot lock files, so processes could overwrite each other's writes; keep the registry on a local "
    "disk (--registry, or PRUNECAST_REGISTRY) and merge it from there"
)

_LOCK_REASONS = {
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
}

_REASONS = {
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

# All that a SELECT needs. ATTACH in particular is missing: it opens other files, and VACUUM INTO writes through it.
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


@contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Raise errors of SQLite and the operating system about ``path`` as RegistryError, one line each.

    SQLite errors that no user can remedy are raised unchanged, with their traceback.
    """
    try:
        yield
    except sqlite3.Error as error:
        reason = _reason(error, path)
        if reason is None:
            raise
        raise RegistryError(f"{path}: {reason}") from error
    except UnicodeEncodeError as error:
        raise RegistryError(f"{path}: {error.object!r} is no Unicode text and was not recorded; rename it") from error
    except OSError as error:
        raise RegistryError(f"{path}: {error.strerror}; name another file or make this one accessible") from error


def _reason(error: sqlite3.Error, path: Path) -> str | None:
    """Reason of an error of SQLite and its remedy; None if no user can remedy it."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_TOOBIG:
        return _too_big(path)
    # The error of Python's own decoder has no code, and its message repeats the text.
    if code == 0 and "decode" in str(error):
        return "holds text that is not UTF-8: it is damaged, or not made by prunecast; restore a copy of it"
    if code == sqlite3.SQLITE_ERROR and "malformed JSON" in str(error):
        return "holds text that should be JSON and is not: it is damaged; restore a copy of it"
    # The low byte is the primary code; the higher bits distinguish variants, most of which have the same remedy.
    known = _NO_LOCKS if code in _LOCK_REASONS else _REASONS.get(code & 0xFF)
    return None if known is None else f"{known} ({error})"


def _too_big(path: Path) -> str:
    with closing(connect_readonly(path)) as connection:
        columns = ", ".join(oversized_columns(connection))
    limit = f"more than {MOST_CELL_BYTES // 2**20} MiB"
    if not columns:
        return f"a value of {limit} cannot be recorded; make it shorter"
    return f"holds {limit} in one cell of {columns}, which prunecast never writes; do not use it, or delete that row"


def open_database(path: Path, readonly: bool) -> Database:
    """Open the registry at ``path``, creating or upgrading it as ``Registry.open`` describes."""
    with one_line_errors(path):
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

    Reading a file in WAL mode creates a ``-shm`` file beside it. If the folder forbids that and there is no
    write-ahead log, the file is opened as immutable.
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
    """Connection that can write; a missing file is created."""
    return _connect_uri(f"{path.absolute().as_uri()}?mode=rwc")


def connect_existing(path: Path) -> sqlite3.Connection:
    """Connection that can write to a file that is there; another one is not created."""
    return _connect_uri(f"{path.absolute().as_uri()}?mode=rw")


def copy_to(path: Path, copy: Path) -> None:
    """Copy a registry, including the commits that a killed process left in its write-ahead log."""
    with closing(connect_readonly(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A separate read-only connection to the registry at ``path``, with errors as of :func:`one_line_errors`.

    Call :func:`only_select` on it before it executes SQL of a user.
    """
    with one_line_errors(path), closing(connect_readonly(path)) as connection:
        check_schema(connection, path, schema_version(connection))
        yield connection


def only_select(connection: sqlite3.Connection) -> None:
    """Deny everything but SELECT statements on this connection from now on."""
    # The first use of json_each declares it, which the authorizer sees as the creation of a table.
    connection.execute("SELECT 1 FROM json_each('[]')").fetchall()
    connection.set_authorizer(lambda action, *subject: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY)


def check_content(connection: sqlite3.Connection, path: Path) -> None:
    """Raise RegistryError unless the file is sound and every value has the type of its column; reads the whole file.

    A file can hold others if its schema was exchanged for a while, or if it was not written by SQLite.
    """
    with one_line_errors(path):
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise RegistryError(f"{path}: is damaged ({found}); take it from its author again")


def _connect_uri(uri: str) -> sqlite3.Connection:
    # isolation_level=None: transactions start only by an explicit BEGIN IMMEDIATE.
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    guard(connection)
    return connection


def schema_version(connection: sqlite3.Connection) -> int:
    """Schema version of the file; 0 if the file is empty."""
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


def check_writable(path: Path) -> None:
    """Raise RegistryError if a registry could not be opened for writing at ``path``, or created there."""
    with one_line_errors(path):
        _refuse_unsuitable(path, readonly=False)
        if not path.exists():
            nearest = next(folder for folder in path.absolute().parents if folder.exists())
            with tempfile.TemporaryFile(dir=nearest):
                pass  # root may write to any folder, but not to every file system


def _refuse_foreign(path: Path) -> None:
    # Read without SQLite, which would recover or checkpoint a foreign database on opening.
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
    # The version is in the header; this reads the schema too, so that damage to it is found here.
    database.conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
    found = schema_version(database.conn)
    if found > migrations.SCHEMA_VERSION:
        raise RegistryError(
            f"{path}: has schema version {found}, this prunecast knows versions up to {migrations.SCHEMA_VERSION}; "
            "upgrade prunecast (pip install --upgrade prunecast), or name another file"
        )
    check_schema(database.conn, path, found)
    if readonly:
        if found < migrations.SCHEMA_VERSION:
            raise RegistryError(
                f"{path}: has the old schema version {found}; run a spec with it once, which keeps a copy and "
                f"upgrades it to version {migrations.SCHEMA_VERSION}"
            )
        if missing := missing_views(database.conn):
            raise RegistryError(
                f"{path}: lacks the views {', '.join(missing)}; make them again with prunecast registry gc"
            )
        return
    if found < migrations.SCHEMA_VERSION:
        with immediate(database.conn):
            _upgrade(database, path)
    elif missing_views(database.conn):
        with immediate(database.conn):
            create_views(database.conn)
    _use_journal(database.conn, "delete" if network_file_system(path) else "wal")
    database.conn.execute("PRAGMA foreign_keys = ON")


def _upgrade(database: Database, path: Path) -> None:
    # Checked again under the lock: another process may have upgraded the file meanwhile.
    found = schema_version(database.conn)
    if found == migrations.SCHEMA_VERSION:
        return
    if found:
        _refuse_dangling(database.conn, path)
        _back_up(path, found)
    try:
        migrations.migrate(database)
    except (sqlite3.OperationalError, sqlite3.IntegrityError) as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            raise
        raise RegistryError(
            f"{path}: is not what schema version {found} holds ({error}); restore a copy of it, or move it away to "
            "start a new registry"
        ) from error


def _refuse_dangling(connection: sqlite3.Connection, path: Path) -> None:
    # An upgrade joins rows to the rows they refer to, so a dangling reference would drop its row.
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
    # A change of mode needs an exclusive lock and does not wait for it, whatever the timeout.
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
    """One write transaction: committed at the end, rolled back on any error.

    It takes the write lock at once, so reads inside stay valid.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors, such as a full disk, SQLite has already rolled back.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
