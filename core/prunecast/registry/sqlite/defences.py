"""Defences against registry files that others wrote (https://www.sqlite.org/security.html, section 1).

SQL in a file is code: a trigger acts when a row is written, a view answers a question in its own way, and a virtual
table reads what it likes. A registry holds none but its own views, and each of its tables and views is exactly what the
migrations make. This is checked whenever a file is opened, because a file does not tell where it came from.
"""

import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NamedTuple

from prunecast.errors import RegistryError
from prunecast.registry.schema import migrations, views

MOST_CELL_BYTES = 64 * 2**20
"""Largest text or BLOB that is read or written, in bytes; the longest results are a few MB."""

_OBJECTS = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master"


class _Object(NamedTuple):
    """A row of ``sqlite_master``."""

    kind: str
    name: str
    table: str
    sql: str

    @property
    def is_virtual(self) -> bool:
        return self.kind == "table" and self.sql[:30].upper().split()[:2] == ["CREATE", "VIRTUAL"]

    def __str__(self) -> str:
        return f"{'virtual table' if self.is_virtual else self.kind} {self.name}"


def guard(connection: sqlite3.Connection) -> None:
    """Set limits on what a file can make SQLite do, before anything is read from it.

    Extensions cannot be loaded: Python leaves that switched off, and nothing here switches it on.
    """
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_CELL_BYTES)
    connection.execute("PRAGMA cell_size_check = ON")
    if json_is_innocuous():
        connection.execute("PRAGMA trusted_schema = OFF")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


def check_schema(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Refuse a file whose tables and views are not those of its schema version, or that has triggers.

    Other tables, with their indexes, may stand beside those of a registry. Views of an older version are compared by
    name alone, because an upgrade drops them before it reads anything.

    Raises:
        RegistryError: names every object that is foreign, or every table that is missing.
    """
    # One transaction, so that another process cannot record a metric between reading the metrics and the views.
    connection.execute("BEGIN")
    try:
        objects = [_Object(*row) for row in connection.execute(_OBJECTS)]
        tables = migrations.tables_of(version)
        missing = tables.keys() - {each.name for each in objects}
        foreign = [each for each in objects if each.kind != "view" and not _is_own(each, tables)]
        # The views follow from the metrics, which are read only if their table is what it should be.
        if not missing and not foreign:
            own = views.definitions(connection) if version == migrations.SCHEMA_VERSION else None
            foreign = [each for each in objects if each.kind == "view" and not _is_own_view(each, own)]
    finally:
        connection.execute("COMMIT")
    if missing:
        raise RegistryError(
            f"{path}: lacks {', '.join(sorted(missing))}: it is damaged, or not made by prunecast; restore a copy of "
            "it, or move it away to start a new registry"
        )
    if foreign:
        drop = " ".join(f"DROP {each.kind.upper()} {_quoted(each.name)};" for each in foreign if each.kind != "table")
        remedy = f"if the file is yours, run {drop} with sqlite3, else do" if drop else "do"
        raise RegistryError(
            f"{path}: has {', '.join(map(str, foreign))}, not made by prunecast, which can change what is read or "
            f"written; {remedy} not use it"
        )


@cache
def json_is_innocuous() -> bool:
    """False if this SQLite takes its own JSON functions for unsafe, as version 3.40 does by mistake.

    The tables and views of a registry use them, and could not be read at all with ``trusted_schema`` off. Then
    :func:`check_schema`, which executes no SQL of the file, is the only defence against it.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        try:
            connection.execute("CREATE TABLE probe (json TEXT CHECK (json_valid(json)))")
        except sqlite3.OperationalError:
            return False
    return True


def missing_views(connection: sqlite3.Connection) -> list[str]:
    """Names of the views that the file lacks."""
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
    return [name for name in views.NAMES if name not in found]


def oversized_columns(connection: sqlite3.Connection) -> Iterator[str]:
    """``TABLE.COLUMN`` of every column that has a cell of more than ``MOST_CELL_BYTES``."""
    for table in migrations.tables_of(migrations.SCHEMA_VERSION):
        for _, column, *_ in connection.execute(f"PRAGMA table_info({_quoted(table)})").fetchall():
            try:
                # A comparison loads every cell, one at a time.
                connection.execute(f"SELECT count(*) FROM {_quoted(table)} WHERE {_quoted(column)} = ''").fetchone()
            except sqlite3.DataError:
                yield f"{table}.{column}"


def _is_own(each: _Object, tables: Mapping[str, str]) -> bool:
    """True for a table or index of a registry, and for those that may stand beside them."""
    if each.kind == "trigger":
        return False
    if each.name in tables or each.table in tables:
        return tables.get(each.name) == each.sql or (each.kind == "index" and each.name.startswith("sqlite_"))
    return not each.is_virtual and each.name.lower() not in views.NAMES


def _is_own_view(each: _Object, definitions: Mapping[str, str] | None) -> bool:
    return each.name in views.NAMES if definitions is None else definitions.get(each.name) == each.sql


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
