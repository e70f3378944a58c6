"""Merging: another registry file taken into this one."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from prunecast.errors import RegistryError
from prunecast.registry.schema.migrations import SCHEMA_VERSION
from prunecast.registry.sharing.records import Absorbed, absorb, records_of
from prunecast.registry.sqlite.database import connect_readonly, copy_to, schema_version, told_in_one_line
from prunecast.registry.store import Registry


def merge(registry: Registry, other: Path, theirs: bool = False) -> Absorbed:
    """Take all runs, evaluations and steps of another registry file into this one; merging it again changes nothing.

    Failures stay behind: what one machine could not measure, for want of memory say, another may.

    Numbers that both have and that differ by more than their standard error are reported; ours stay, unless ``theirs``.

    Raises:
        RegistryError: the other file is this one, or no usable registry. It is never changed.
    """
    if other.exists() and other.samefile(registry.path):
        raise RegistryError(f"{other}: is the registry it would be merged into; name another one")
    with _readable(other) as opened:
        return absorb(registry, records_of(opened), theirs)


@contextmanager
def _readable(path: Path) -> Iterator[Registry]:
    """A registry to read; one of an older schema is upgraded as a copy."""
    if not _is_older(path):
        with Registry.open(path, readonly=True) as opened:
            yield opened
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with told_in_one_line(path):
            copy_to(path, copy)
        with Registry.open(copy) as upgraded:
            yield upgraded


def _is_older(path: Path) -> bool:
    if not path.is_file():
        return False
    with told_in_one_line(path), closing(connect_readonly(path)) as connection:
        return 0 < schema_version(connection) < SCHEMA_VERSION
