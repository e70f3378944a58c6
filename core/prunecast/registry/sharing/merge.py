"""Merging another registry file into this one."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from prunecast.errors import RegistryError
from prunecast.registry.schema.migrations import SCHEMA_VERSION
from prunecast.registry.sharing.records import Absorbed, absorb, records_of
from prunecast.registry.sqlite.database import check_content, connect_readonly, copy_to, one_line_errors, schema_version
from prunecast.registry.store import Registry


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
    with _readable(other) as opened:
        return absorb(registry, records_of(opened), theirs)


@contextmanager
def _readable(path: Path) -> Iterator[Registry]:
    """The registry opened for reading; if its schema is older, an upgraded copy of it."""
    if not _is_older(path):
        with Registry.open(path, readonly=True) as opened:
            check_content(opened.database.conn, path)
            yield opened
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with one_line_errors(path):
            copy_to(path, copy)
        try:
            with Registry.open(copy) as upgraded:
                yield upgraded
        except RegistryError as error:
            raise RegistryError(str(error).replace(str(copy), str(path))) from error


def _is_older(path: Path) -> bool:
    if not path.is_file():
        return False
    with one_line_errors(path), closing(connect_readonly(path)) as connection:
        return 0 < schema_version(connection) < SCHEMA_VERSION
