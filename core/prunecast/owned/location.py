"""Paths of folders to write, as users give them."""

from pathlib import Path

from prunecast.errors import ExportError, one_line

NAME = "{name}"
"""Part of a path that stands for the name of the run."""


def located(path: str | Path, name: str) -> Path:
    """Absolute path of a folder to write: ``{name}`` replaced, ``~`` expanded, symbolic links followed.

    Args:
        path: the path as given; relative to the current folder.
        name: name of the run.

    Raises:
        ExportError: the path is empty or leads nowhere, or ``{name}`` stands for a name that is not one part of a path.
    """
    text = str(path) if isinstance(path, Path) else path
    if not text.strip():
        raise ExportError("the folder to write has an empty path: name one, . for the current folder")
    if NAME in text:
        if name in ("", ".", "..") or any(mark in name for mark in "/\\\0"):
            raise ExportError(
                f"{text}: the run's name {name!r} cannot be a part of a path: write the folder's name out"
            )
        text = text.replace(NAME, name)
    try:
        return Path(text).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, ~ of nobody, a NUL
        raise ExportError(f"{text!r} is no path to write to ({one_line(error)}): choose another folder") from error
