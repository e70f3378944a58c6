"""A folder that holds files of prunecast and possibly files of other origin.

The manifest lists prunecast's files with their digests; all others are foreign. A file is replaced or deleted only if
it is listed and still has its digest; without ``overwrite``, only by files of the same subject. A foreign file is never
touched.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from prunecast import text
from prunecast.errors import ExportError, one_line
from prunecast.owned.files import NOT_A_FILE, digest, give_usual_mode
from prunecast.owned.journal import NEW, OLD, Exchange, clear, exchange, finish
from prunecast.owned.manifest import Manifest, Origin

WORKPLACE = ".prunecast-unfinished"
"""Folder inside the target for files that are being written; a killed process leaves it to the next one."""

LOCK = "lock"


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that prunecast writes.

    Attributes:
        noun: its name in messages.
        manifest: file name of the manifest.
        entry: name of the file by which programs read the folder.
        documents: names of files that people edit. Files of the same subject leave an edited one as it is.
        reserved: patterns of names that no foreign file in the folder may have, because such files are written by
            prunecast or read together with its files.
    """

    noun: str
    manifest: str
    entry: str
    documents: frozenset[str] = frozenset()
    reserved: tuple[str, ...] = ()


class OwnedFolder:
    """A folder whose files prunecast writes and tracks in a manifest.

    Attributes:
        kind: its kind.
        path: its absolute path; it may not exist yet.
    """

    def __init__(self, kind: FolderKind, path: Path) -> None:
        self.kind, self.path = kind, path

    def check(self, origin: Origin, overwrite: bool = False) -> None:
        """Find early what would keep files from being written here. An exchange that was killed is completed first.

        Args:
            origin: what is going to be written, as far as it is known.
            overwrite: True allows files of another subject, or edited since, to be replaced.

        Raises:
            ExportError: files are in the way, another process writes here, or the folder cannot be written to.
        """
        with self._one_line():
            self._complete_killed()
            self._check_place()
            found = self._manifest()
            self._check_subject(found, origin, overwrite)
            edited = self._edited(found)
            if edited and not overwrite:
                raise self._edited_error(edited)
            self._check_reserved(found)
            if found is None or edited or overwrite or self._missing(found):
                self._check_writable()

    def check_room(self, origin: Origin, needed: int) -> None:
        """Find out whether ``needed`` bytes are free, unless files of the same subject are already here.

        Raises:
            ExportError: they are not.
        """
        with self._one_line():
            found = self._manifest()
            if found is not None and not found.origin.differences(origin) and not self._missing(found):
                return
            place = self._existing()
            free = shutil.disk_usage(place).free
        if free < needed:
            raise ExportError(
                f"{place} has {text.size(free)} free, the {self.kind.noun} needs about {text.size(needed)}: "
                "free some space or choose another folder"
            )

    def holding(self, origin: Origin) -> Manifest | None:
        """The manifest, if files of this very origin are here and whole; else None."""
        with self._one_line():
            found = self._manifest()
            if found is None or not origin.key or found.origin.key != origin.key:
                return None
            return found if self.is_whole(origin.subject) else None

    def is_whole(self, subject: Mapping[str, str]) -> bool:
        """True if all files of a subject are here as they were written; documents may be edited."""
        with self._one_line():
            found = self._manifest()
            if found is None or found.origin.differences(Origin(subject=subject)):
                return False
            return not self._missing(found) and not self._edited(found)

    @contextmanager
    def staged(self) -> "Iterator[Staging]":
        """A place for new files, from which :meth:`Staging.publish` puts them here. It is deleted if an error occurs.

        Raises:
            ExportError: another process writes here; or an OSError inside the context.
        """
        with self._one_line(), self._workplace() as workplace:
            (workplace / NEW).mkdir()
            yield Staging(self, workplace)

    # ------------------------------------------------------------------------------------------------------ checks

    def _check_place(self) -> None:
        place = self._existing()
        if not place.is_dir():
            raise ExportError(f"{place} is a file, no folder: choose another folder")

    def _check_subject(self, found: Manifest | None, origin: Origin, overwrite: bool) -> None:
        differences = [] if found is None or overwrite else found.origin.differences(origin)
        if found is not None and differences:
            maker = f" of run {found.origin.run!r}" if found.origin.run else ""
            raise ExportError(
                f"{self.path} holds the {self.kind.noun}{maker}, of another {' and '.join(differences)}: "
                "choose another folder ({name} in a path is the run's name), or replace it with --overwrite"
            )

    def _check_reserved(self, found: Manifest | None) -> None:
        owned = {self.kind.manifest} | set(found.files) if found is not None else set()
        with suppress(FileNotFoundError):
            foreign = sorted(name for name in os.listdir(self.path) if name not in owned)
            if taken := [name for name in foreign if any(fnmatchcase(name, each) for each in self.kind.reserved)]:
                raise self._foreign_error(taken)

    def _check_writable(self) -> None:
        with tempfile.TemporaryFile(dir=self._existing()) as probe:
            probe.write(b"?")
            probe.flush()

    def _existing(self) -> Path:
        """The folder, or the nearest one above that exists."""
        return next(place for place in (self.path, *self.path.parents) if place.exists())

    def _edited_error(self, names: list[str]) -> ExportError:
        return ExportError(
            f"{self.path}: {_listed(names)} changed since the {self.kind.noun} was written: choose another folder, or "
            "replace what is there with --overwrite"
        )

    def _foreign_error(self, names: list[str]) -> ExportError:
        return ExportError(
            f"{self.path} holds {_listed(names)} of another origin (no {self.kind.manifest} lists it): choose another "
            "folder, or move it away"
        )

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise ExportError(
                f"{self.path} cannot be written: {reason}; free some space or choose another folder"
            ) from error

    # ----------------------------------------------------------------------------------------------- what is there

    def _manifest(self) -> Manifest | None:
        return Manifest.read(self.path / self.kind.manifest)

    def _digest(self, name: str) -> str | None:
        """Digest of a file; ``NOT_A_FILE`` for one that lies outside the folder, by a link to another folder."""
        path = self.path / name
        inside = path.parent.resolve().is_relative_to(self.path)
        return digest(path) if inside else NOT_A_FILE

    def _missing(self, found: Manifest) -> list[str]:
        return [name for name in found.files if not os.path.lexists(self.path / name)]

    def _edited(self, found: Manifest | None) -> list[str]:
        """Names of listed files whose digest has changed, without documents and deleted files."""
        files = {} if found is None else found.files
        now = {name: self._digest(name) for name in files if name not in self.kind.documents}
        return [name for name, here in now.items() if here not in (None, files[name])]

    def _changes(self, new: Manifest, new_digest: str, overwrite: bool) -> Exchange:
        """Renames after which the folder holds what ``new`` lists.

        Raises:
            ExportError: a file is in the way.
        """
        found = self._manifest()
        self._check_subject(found, new.origin, overwrite)
        before = {} if found is None else found.files
        here = {name: self._digest(name) for name in {*new.files, *before}}
        edited = {name for name in before if here[name] not in (None, NOT_A_FILE, before[name])}
        kept = set() if overwrite else edited & self.kind.documents
        put = [name for name, wanted in new.files.items() if here[name] != wanted and name not in kept]
        in_place = [name for name in put if here[name] is not None]
        if foreign := [name for name in in_place if name not in before or here[name] == NOT_A_FILE]:
            raise self._foreign_error(foreign)
        if (lost := sorted(edited.intersection(in_place))) and not overwrite:
            raise self._edited_error(lost)
        dropped = [name for name in before if name not in new.files and here[name] == before[name]]
        entry = self.kind.entry
        if (put or dropped) and entry in before and entry in new.files and entry not in put:
            # The unchanged entry file is exchanged too, so that no program can read the folder while other files are.
            put, in_place = [*put, entry], [*in_place, entry]
        return self._ordered([*in_place, *dropped], put, found is not None, new_digest)

    def _ordered(self, take: list[str], put: list[str], has_manifest: bool, new_digest: str) -> Exchange:
        """An exchange in the order in which it is made: the entry file leaves first and enters last."""
        manifest = self.kind.manifest
        if self._digest(manifest) != new_digest:
            if not has_manifest and os.path.lexists(self.path / manifest):
                raise self._foreign_error([manifest])
            put = [*put, manifest]
            take = [*take, manifest] if has_manifest else take
        parents = {str(parent) for name in put for parent in Path(name).parents if str(parent) != "."}
        return Exchange(
            tuple(sorted(take, key=lambda name: (name != self.kind.entry, name))),
            tuple(sorted(put, key=lambda name: (name == self.kind.entry, name == manifest, name))),
            tuple(sorted(name for name in parents if not (self.path / name).exists())),
        )

    # --------------------------------------------------------------------------------------------------- workplace

    def _complete_killed(self) -> None:
        if (self.path / WORKPLACE).is_dir():
            with self._workplace():
                pass

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        """The workplace, locked and empty. Folders that are made for it are deleted after an error."""
        workplace = self.path / WORKPLACE
        made = [place for place in (self.path, *self.path.parents) if not place.exists()]
        try:
            workplace.mkdir(parents=True, exist_ok=True)
            with self._locked(workplace):
                finish(self.path, workplace)
                clear(workplace)
                try:
                    yield workplace
                finally:
                    with suppress(OSError):  # what is left is cleared by the next call
                        clear(workplace)
        except BaseException:
            for place in made:
                with suppress(OSError):
                    place.rmdir()
            raise

    @contextmanager
    def _locked(self, workplace: Path) -> Iterator[None]:
        lock = FileLock(workplace / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise ExportError(f"{self.path}: another process is writing there; wait for it to end") from error
        try:
            yield
        finally:
            # The file is deleted while it is locked: else a process that waits for it would lock a deleted file.
            with suppress(OSError):
                (workplace / LOCK).unlink()
            lock.release()
            with suppress(OSError):
                workplace.rmdir()


class Staging:
    """New files of a folder, not yet in place.

    Attributes:
        path: folder to write them to.
    """

    def __init__(self, folder: OwnedFolder, workplace: Path) -> None:
        self._folder, self._workplace = folder, workplace
        self.path = workplace / NEW

    def publish(self, origin: Origin, facts: Mapping[str, Any], overwrite: bool = False) -> tuple[Manifest, bool]:
        """Make the folder hold these files and a manifest of them.

        A file that already has the same content is not touched. A file that only the previous manifest lists is
        removed, unless it was edited. An edited document (``FolderKind.documents``) is kept unless ``overwrite``.
        Files get the mode that the umask gives.

        Args:
            origin: what they were made of.
            facts: facts to keep in the manifest, JSON-able.
            overwrite: True replaces files of another subject, and files edited since.

        Returns:
            The manifest, and True if anything was changed.

        Raises:
            ExportError: a file is in the way, and nothing was changed; or the exchange failed and could not be undone,
                and the message says where the files are.
            OSError: the exchange failed and was undone.
        """
        names = sorted(file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file())
        manifest = Manifest(origin, {name: str(digest(self.path / name)) for name in names}, facts)
        manifest_file = self.path / self._folder.kind.manifest
        manifest_file.write_text(manifest.to_json(), encoding="utf-8", newline="")
        give_usual_mode(self.path)
        changes = self._folder._changes(manifest, str(digest(manifest_file)), overwrite)
        changed = bool(changes.put or changes.take)
        if changed:
            (self._workplace / OLD).mkdir()
            exchange(self._folder.path, self._workplace, changes)
        return manifest, changed


def _listed(names: list[str]) -> str:
    """Up to three of several names, and the number of further ones."""
    others = len(names) - 3
    return ", ".join(names[:3]) + (f" and {others} more" if others > 0 else "")
