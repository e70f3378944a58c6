"""The exchange of a folder's files for new ones: a few renames, listed in a journal before the first.

An error or an interruption in between moves everything back. After a kill the journal is still there, and
:func:`finish` completes the exchange. The entry file, by which programs read the folder, is the first to go and the
last to come, so that a folder between the two states is refused by them, not read as a mixture.

A workplace is a folder inside the target, so that each rename stays on one file system whatever is mounted where, and
new files get the group and the access lists of the target. It holds ``new``, ``old`` and ``journal.json``.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from prunecast.errors import ExportError, one_line
from prunecast.owned.files import sync, written_whole

NEW, OLD, JOURNAL = "new", "old", "journal.json"


@dataclass(frozen=True)
class Exchange:
    """Renames of an exchange.

    Attributes:
        take: names of files that leave the target, in order.
        put: names of files that enter it, in order.
        folders: names of folders to make for them, outermost first.
    """

    take: tuple[str, ...]
    put: tuple[str, ...]
    folders: tuple[str, ...] = ()


def exchange(target: Path, workplace: Path, changes: Exchange) -> None:
    """Make an exchange: ``put`` comes from ``new`` of the workplace, ``take`` goes to ``old``.

    Raises:
        OSError: it failed; the target is as it was before.
        ExportError: it failed, and the target could not be put back either; the journal is kept.
    """
    for name in changes.put:
        sync(workplace / NEW / name)
    with written_whole(workplace / JOURNAL) as journal:
        journal.write_text(json.dumps(asdict(changes)), encoding="utf-8")
        sync(journal)
    sync(workplace)
    try:
        _apply(target, workplace, changes)
    except BaseException as error:
        try:
            _undo(target, workplace, changes)
        except OSError as second:
            raise ExportError(
                f"{target} can be neither completed nor put back ({one_line(second)}); all its files are in "
                f"{workplace}: make the folder writable, and the next export to it completes this one"
            ) from error
        (workplace / JOURNAL).unlink()
        raise
    sync(target)
    (workplace / JOURNAL).unlink()


def finish(target: Path, workplace: Path) -> None:
    """Complete an exchange that was killed; without a journal nothing is done.

    Raises:
        OSError: the folder cannot be written; the journal is kept.
        ExportError: somebody has put a file meanwhile where one is to be renamed to.
    """
    journal = workplace / JOURNAL
    if not journal.is_file():
        return
    stored = json.loads(journal.read_text(encoding="utf-8"))
    changes = Exchange(**{part: tuple(names) for part, names in stored.items()})
    try:
        _apply(target, workplace, changes)
    except FileExistsError as error:
        raise ExportError(
            f"{error.filename} is in the way of an export that was killed while it was put in place: move it away"
        ) from error
    journal.unlink()


def clear(workplace: Path) -> None:
    """Delete the files of a workplace. One whose exchange is under way is left alone."""
    if (workplace / JOURNAL).exists():
        return
    for name in (NEW, OLD):
        if (workplace / name).exists():
            shutil.rmtree(workplace / name)
    for unfinished in workplace.glob(f".{JOURNAL}.*"):
        unfinished.unlink()


def _apply(target: Path, workplace: Path, changes: Exchange) -> None:
    """Every rename that has not been made yet."""
    for name in changes.folders:
        (target / name).mkdir(exist_ok=True)
    for name, old in _in(workplace / OLD, changes.take):
        if not os.path.lexists(old):
            old.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # deleted by somebody since
                os.rename(target / name, old)
    for name, new in _in(workplace / NEW, changes.put):
        if os.path.lexists(new):
            _rename_to_nothing(new, target / name)
    for name in changes.take:
        for parent in PurePosixPath(name).parents[:-1]:
            with suppress(OSError):  # not empty
                (target / parent).rmdir()


def _undo(target: Path, workplace: Path, changes: Exchange) -> None:
    """Every rename that has been made, backwards."""
    for name, new in _in(workplace / NEW, reversed(changes.put)):
        if not os.path.lexists(new):
            os.rename(target / name, new)
    for name, old in _in(workplace / OLD, reversed(changes.take)):
        if os.path.lexists(old):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            _rename_to_nothing(old, target / name)
    for name in reversed(changes.folders):
        with suppress(OSError):
            (target / name).rmdir()


def _in(folder: Path, names: "Iterator[str] | tuple[str, ...]") -> Iterator[tuple[str, Path]]:
    return ((name, folder / name) for name in names)


def _rename_to_nothing(source: Path, destination: Path) -> None:
    if os.path.lexists(destination):
        raise FileExistsError(17, "File exists", str(destination))
    os.rename(source, destination)
