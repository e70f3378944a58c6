"""Single files: written whole or not at all, with the mode that the umask gives, and their digests."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOT_A_FILE = "not a file"
"""Digest of what is no regular file, such as a folder or a pipe; equal to that of no file."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Path to write a file to, which takes the place of ``path`` at the end of the context; the folder is made.

    The file gets the mode that the umask gives, whatever its writer sets: safetensors makes files that only their
    owner can read. After an error nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(mode)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def give_usual_mode(folder: Path) -> None:
    """Give every file in a folder, and in folders inside, the mode that the umask gives to new files."""
    probe = folder / f".mode.{os.getpid()}"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def digest(path: Path) -> str | None:
    """SHA-256 of a file, 64 hexadecimal digits; None if nothing is there, ``NOT_A_FILE`` if it is something else.

    A symbolic link counts as the file it leads to; one that leads nowhere is no file.
    """
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        return NOT_A_FILE
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file is on the disk, or the entries of a folder where the platform can do that."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(path, flags)
    except PermissionError:
        if path.is_dir():  # Windows opens no folder
            return
        raise
    try:
        os.fsync(number)
    finally:
        os.close(number)
