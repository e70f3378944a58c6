"""A registry of any released schema, or none at all, opened without a change to its file."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from prunecast.errors import RegistryError
from prunecast.registry.schema.migrations import SCHEMA_VERSION
from prunecast.registry.sqlite.database import (
    check_writable,
    connect_readonly,
    copy_to,
    one_line_errors,
    schema_version,
)
from prunecast.registry.store import Registry


@contextmanager
def readable(path: Path) -> Iterator[Registry]:
    """The registry opened for reading; if its schema is older, an upgraded copy of it.

    Raises:
        RegistryError: there is no registry, or it cannot be read.
    """
    if not _is_older(path):
        with Registry.open(path, readonly=True) as opened:
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


@contextmanager
def unchanged(path: Path) -> Iterator[Registry]:
    """The registry that a run would write to, for planning that run: an empty one where there is none yet.

    Raises:
        RegistryError: the file is no registry, or could not be written or created.
    """
    check_writable(path)
    if path.exists() and path.stat().st_size:
        with readable(path) as opened:
            yield opened
        return
    with tempfile.TemporaryDirectory() as folder, Registry.open(Path(folder) / "registry.db") as empty:
        yield empty


def _is_older(path: Path) -> bool:
    if not path.is_file():
        return False
    with one_line_errors(path), closing(connect_readonly(path)) as connection:
        return 0 < schema_version(connection) < SCHEMA_VERSION
