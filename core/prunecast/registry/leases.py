"""Leases: if several processes need the same evaluation, one measures it and the others wait for it.

A lease lasts half a minute and is renewed in the background while its holder measures. After the holder was killed,
another process takes the lease over: at once if it can see that the holder has ended, else when the lease expires. A
lease that expires too early, because its holder was suspended, costs only a second measurement: the evaluation recorded
first stays.
"""

import os
import platform
import sqlite3
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Self
from uuid import getnode, uuid4

from prunecast.architecture.architecture import Architecture
from prunecast.keys import content_key
from prunecast.registry.recording import ensure_architectures, ensure_setting, evaluations_of
from prunecast.registry.records import Setting, utc_text
from prunecast.registry.sqlite.database import connect_writable
from prunecast.registry.store import Registry

LEASE_SECONDS = 30.0
"""Time after its last renewal at which a lease expires."""

_FIND = "SELECT holder, expires_utc FROM leases WHERE architecture_id = ? AND setting_id = ?"

_TAKE = "INSERT OR REPLACE INTO leases (architecture_id, setting_id, holder, expires_utc) VALUES (?, ?, ?, ?)"

_RENEW = "UPDATE leases SET expires_utc = ? WHERE architecture_id = ? AND setting_id = ? AND holder = ?"

_END = "DELETE FROM leases WHERE architecture_id = ? AND setting_id = ? AND holder = ?"


def take_lease(
    registry: Registry, setting: Setting, architecture: Architecture, seconds: float = LEASE_SECONDS
) -> "Lease | None":
    """Take the lease to measure ``architecture`` under ``setting``.

    Args:
        registry: the registry, open for writing.
        setting: the setting.
        architecture: the architecture.
        seconds: time until the lease expires unless it is renewed.

    Returns:
        The lease, or None if another process has it or the evaluation has been recorded meanwhile.

    Raises:
        RegistryError: the file cannot be written.
    """
    with registry.transaction() as connection:
        setting_id = ensure_setting(connection, setting)
        (architecture_id,) = ensure_architectures(connection, [architecture])
        if evaluations_of(connection, setting_id, [architecture_id]):
            return None
        held = connection.execute(_FIND, (architecture_id, setting_id)).fetchone()
        if held is not None and held[1] >= utc_text() and not _is_gone(held[0]):
            return None
        holder = f"{_place()}:{os.getpid()}:{uuid4().hex}"
        connection.execute(_TAKE, (architecture_id, setting_id, holder, utc_text(seconds)))
    return Lease(registry, architecture_id, setting_id, holder, seconds)


class Lease:
    """A lease held by this process. As a context manager it is renewed until the block ends.

    It is deleted when the evaluation or its failure is recorded, or when an exception leaves the block.
    """

    def __init__(self, registry: Registry, architecture_id: int, setting_id: int, holder: str, seconds: float) -> None:
        self._registry, self._seconds = registry, seconds
        self._row = (architecture_id, setting_id, holder)
        self._over = Event()
        self._renewal = Thread(target=_renew, args=(registry.path, self._row, seconds, self._over), daemon=True)

    def __enter__(self) -> Self:
        self._renewal.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._over.set()
        self._renewal.join()
        if kind is not None:
            with self._registry.transaction() as connection:
                connection.execute(_END, self._row)


def _renew(path: Path, row: tuple[int, int, str], seconds: float, over: Event) -> None:
    while not over.wait(seconds / 3):
        # If a renewal fails, the lease expires at worst.
        with suppress(sqlite3.OperationalError), closing(connect_writable(path)) as connection:
            connection.execute(_RENEW, (utc_text(seconds), *row))


def _is_gone(holder: str) -> bool:
    """True if the holder has ended for certain, which is known only of processes of this machine or container."""
    import psutil

    place, pid, _ = holder.split(":")
    if place != _place():
        return False
    try:
        return bool(psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@cache
def _place() -> str:
    """Hash that identifies the machine, or the container on it, within which process ids are unique."""
    namespace = Path("/proc/self/ns/pid")
    return content_key([platform.node(), getnode(), namespace.stat().st_ino if namespace.exists() else 0])
