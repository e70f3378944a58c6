"""Leases: signs in the registry of what a living process is at, renewed in the background.

If several processes need the same evaluation, one takes the lease on it and measures, and the others wait for it. A
lease lasts half a minute. After the holder was killed, another process takes the lease over: at once if it can see that
the holder has ended, else when the lease expires. A lease that expires too early, because its holder was suspended,
costs only a second measurement: the evaluation recorded first stays.

A process also has a lease on the run that it executes. A run without one is not running, whatever its row says.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Self
from uuid import uuid4

from prunecast.architecture.architecture import Architecture
from prunecast.errors import RegistryError
from prunecast.registry.holders import LEASE_SECONDS, has_ended, this_process
from prunecast.registry.recording import ensure_architectures, ensure_setting, evaluations_of
from prunecast.registry.records import Setting, utc_text
from prunecast.registry.sqlite.database import connect_existing
from prunecast.registry.store import Registry

_FIND = "SELECT holder, expires_utc FROM leases WHERE architecture_id = ? AND setting_id = ?"

_TAKE = "INSERT OR REPLACE INTO leases (architecture_id, setting_id, holder, expires_utc) VALUES (?, ?, ?, ?)"

_RENEW = "UPDATE leases SET expires_utc = ? WHERE holder = ?"

_END = "DELETE FROM leases WHERE holder = ?"

_RENEW_RUN = "UPDATE run_leases SET expires_utc = ? WHERE run_id = ? AND holder = ?"

_END_RUN = "DELETE FROM run_leases WHERE run_id = ? AND holder = ?"


class Leases:
    """The leases of this process on evaluations. As a context manager they are renewed until the block ends.

    A lease is deleted when its evaluation or its failure is recorded; those that are left end with the block.

    Args:
        registry: the registry, open for writing.
        seconds: time until a lease expires unless it is renewed.
    """

    def __init__(self, registry: Registry, seconds: float = LEASE_SECONDS) -> None:
        self._registry, self._seconds = registry, seconds
        self._holder = f"{this_process()}:{uuid4().hex}"
        self._over = Event()
        renewal = (registry.path, _RENEW, (self._holder,), seconds, self._over)
        self._renewal = Thread(target=_renew, args=renewal, daemon=True)

    def __enter__(self) -> Self:
        self._renewal.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._renewal.join()
        with self._registry.transaction() as connection:
            connection.execute(_END, (self._holder,))

    def take(self, wanted: Sequence[tuple[Setting, Architecture]]) -> list[bool]:
        """Take the leases on several evaluations, in one transaction.

        Returns:
            For each of them True if it is this process's to measure; False if it has been recorded meanwhile, or has a
            lease already.

        Raises:
            RegistryError: the file cannot be written.
        """
        with self._registry.transaction() as connection:
            return [self._take(connection, setting, architecture) for setting, architecture in wanted]

    def _take(self, connection: sqlite3.Connection, setting: Setting, architecture: Architecture) -> bool:
        setting_id = ensure_setting(connection, setting)
        (architecture_id,) = ensure_architectures(connection, [architecture])
        if evaluations_of(connection, setting_id, [architecture_id]):
            return False
        held = connection.execute(_FIND, (architecture_id, setting_id)).fetchone()
        if held is not None and held[1] >= utc_text() and not has_ended(held[0]):
            return False
        connection.execute(_TAKE, (architecture_id, setting_id, self._holder, utc_text(self._seconds)))
        return True


@contextmanager
def running(registry: Registry, run_id: int) -> Iterator[None]:
    """Renew the lease of this process on a run that it has started, and end it with the block."""
    row, over = (run_id, this_process()), Event()
    renewal = Thread(target=_renew, args=(registry.path, _RENEW_RUN, row, LEASE_SECONDS, over), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        over.set()
        renewal.join(timeout=1)  # a later renewal finds no row
        with suppress(RegistryError), registry.transaction() as connection:
            connection.execute(_END_RUN, row)


def _renew(path: Path, statement: str, row: tuple[int | str, ...], seconds: float, over: Event) -> None:
    while not over.wait(seconds / 3):
        # If a renewal fails, the lease expires at worst.
        with suppress(sqlite3.OperationalError), closing(connect_existing(path)) as connection:
            connection.execute(statement, (utc_text(seconds), *row))
