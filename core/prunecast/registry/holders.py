"""Processes that hold leases: their names in the registry, and whether they have ended."""

import os
import platform
from datetime import datetime
from functools import cache
from pathlib import Path
from uuid import getnode

from prunecast.keys import content_key
from prunecast.registry.records import utc_text

LEASE_SECONDS = 30.0
"""Time after its last renewal at which a lease expires."""


def this_process() -> str:
    """Name of this process as a holder: a hash of the machine or container, and the process id."""
    return f"{_place()}:{os.getpid()}"


def has_ended(holder: str, renewed: float | None = None) -> bool:
    """True if a holder has ended for certain, which is known only of processes of this machine or container.

    Args:
        holder: :func:`this_process` of the holder, anything after another colon ignored.
        renewed: time at which its lease was last renewed, in seconds since 1970. A process that started later has got
            the id of the holder. None if that is not to be checked.
    """
    import psutil

    place, _, rest = holder.partition(":")
    if place != _place():
        return False
    try:
        process = psutil.Process(int(rest.partition(":")[0]))
        reused = renewed is not None and process.create_time() > renewed
        return reused or bool(process.status() == psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return True


def holds(holder: str, expires_utc: str) -> bool:
    """True if the holder of a lease of :data:`LEASE_SECONDS` is at work.

    On this machine that is asked of its process, which may be suspended; elsewhere it is told by the lease.
    """
    if holder.partition(":")[0] != _place():
        return expires_utc >= utc_text()
    expires = datetime.strptime(f"{expires_utc[:-1]}+0000", "%Y-%m-%dT%H:%M:%S%z")
    return not has_ended(holder, expires.timestamp() - LEASE_SECONDS + 1)  # 1: the text has no fractions of a second


@cache
def _place() -> str:
    """Hash that identifies the machine, or the container on it, within which process ids are unique."""
    namespace = Path("/proc/self/ns/pid")
    return content_key([platform.node(), getnode(), namespace.stat().st_ino if namespace.exists() else 0])
