"""Merging another registry file into this one."""

from pathlib import Path

from prunecast.errors import RegistryError
from prunecast.registry.sharing.records import Absorbed, absorb, records_of
from prunecast.registry.sqlite.database import check_content
from prunecast.registry.store import Registry
from prunecast.registry.unchanged import readable


def merge(registry: Registry, other: Path, theirs: bool = False) -> Absorbed:
    """Take all runs, evaluations and local sensitivities of another file into this one.

    Merging the same file again changes nothing. Failures are not merged: an architecture that one machine could not
    measure, e.g. for lack of memory, may be measurable on another.

    Args:
        registry: the registry to merge into, open for writing.
        other: the other registry file; never changed.
        theirs: True to replace the numbers of this registry in a conflict.

    Returns:
        Counts, and the conflicts: numbers in both that differ by more than their standard error.

    Raises:
        RegistryError: the other file is this one, or not a usable registry.
    """
    if other.exists() and other.samefile(registry.path):
        raise RegistryError(f"{other}: is the registry it would be merged into; name another one")
    with readable(other) as opened:
        check_content(opened.database.conn, other)
        return absorb(registry, records_of(opened), theirs)
