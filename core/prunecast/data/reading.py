"""Settings of a spec under which data sets are read: the place of relative paths, and the shares of the parts."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


def _from_current_folder(path: str) -> Path:
    return Path(os.path.expanduser(path))


@dataclass(frozen=True)
class Shares:
    """Shares of a local file's documents in its parts; they add up to 1."""

    train: float = 0.90
    validation: float = 0.05
    test: float = 0.05


@dataclass(frozen=True)
class Reading:
    """Settings of reading.

    Attributes:
        find: function from a path as written to the path of the file or folder.
        shares: shares of the parts that local files are cut into.
    """

    find: Callable[[str], Path] = _from_current_folder
    shares: Shares = Shares()


_CURRENT: ContextVar[Reading | None] = ContextVar("reading", default=None)


def current() -> Reading:
    """The settings now: by default relative paths start from the current folder."""
    return _CURRENT.get() or Reading()


@contextmanager
def reading(settings: Reading) -> Iterator[None]:
    """Read under these settings while the context is open, in this thread. Evaluators take no settings of their own."""
    token = _CURRENT.set(settings)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def local_path(path: str | Path) -> Path:
    """A file or folder that a spec names: relative to the folder of the spec, else to the current one."""
    return current().find(str(path))
