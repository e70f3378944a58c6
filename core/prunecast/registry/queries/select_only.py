"""Reading with statements that a user had a hand in: nothing can be changed, and nothing else be opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from prunecast.registry.sqlite.database import connect_readonly, told_in_one_line
from prunecast.registry.store import Registry

# A SELECT needs no more than these; above all no ATTACH, by which VACUUM INTO too writes files.
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


@contextmanager
def reading(registry: Registry) -> Iterator[sqlite3.Connection]:
    """A connection of its own that can only read; call :func:`only_select` on it before a user's text comes near."""
    with told_in_one_line(registry.path), closing(connect_readonly(registry.path)) as connection:
        yield connection


def only_select(connection: sqlite3.Connection) -> None:
    """Let nothing but SELECT statements through from here on."""
    # The first use of json_each declares it, which looks like making a table.
    connection.execute("SELECT 1 FROM json_each('[]')").fetchall()
    connection.set_authorizer(lambda action, *subject: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY)
