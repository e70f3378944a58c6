"""Local files as data sets."""

import os
import re
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from prunecast.data.dataset import DataSet, Row, column_texts, missing_split, place_of, text_column
from prunecast.data.files import COMPRESSIONS, FORMS, Form, form_of, plain_name, read_bytes
from prunecast.data.parts import PARTS, cut_rows, cut_text
from prunecast.data.reading import current, local_path
from prunecast.errors import DataError

WHOLE = ("all", "calibration")
"""Splits of a local file that are the whole file."""

_ENDINGS = "|".join(re.escape(suffix) for suffix in FORMS)
_PACKED = "|".join(re.escape(suffix) for suffix in COMPRESSIONS)
_LOCAL_NAME = re.compile(rf"(?:.*[/\\])?(?P<stem>[^/\\]+?)(?:{_ENDINGS})(?:{_PACKED})?(?:#.*)?", re.IGNORECASE)
_HELD_OUT = re.compile(r"(?:.*[\W_])?(?P<split>test|validation|valid|val|dev)", re.IGNORECASE)


class LocalFile(DataSet):
    """A text file, which is one document, or a file of rows with a document in each.

    A file without splits is cut into ``train``, ``validation`` and ``test``; ``all`` and ``calibration`` are the whole
    file. Two kinds of files have splits of their own: one with a column ``split``, and one whose name ends in ``test``,
    ``validation``, ``valid``, ``val`` or ``dev``, which is that split as a whole.

    Args:
        name: path of the file, followed by ``#column`` to select the text column of a file of rows.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._path, self._column = next(iter(_readings_of(name)), (local_path(name), None))

    @staticmethod
    def is_named_by(name: str) -> bool:
        """True if the name is the path of a file that exists, or has the suffix of a form that is read."""
        return bool(_readings_of(name))

    @property
    def is_cut(self) -> bool:
        """True if the name of the file does not tell its split."""
        return split_in(self._path) is None

    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """Rows of the split of a file of rows, or one row with the ``text`` of a text file.

        Raises:
            DataError: besides what :class:`DataSet` says, a row anywhere in the file has null or nothing for its text.
        """
        form = self._form()
        rows = form.read(self._path)
        if form.has_rows:
            self._check_texts(rows)
        part = self._part(split, rows if form.has_rows else [])
        if part is None:
            return rows
        if form.has_rows and _has_splits(rows):
            return [row for row in rows if row["split"] == part]
        try:
            if form.has_rows:
                return cut_rows(rows, part, current().shares)
            return [{"text": cut_text(row["text"], part, current().shares)} for row in rows]
        except DataError as error:
            raise DataError(f"data set {self._name}, split {split}: {error}") from error

    def documents(self, rows: list[Row]) -> list[str]:
        """Text column of each row."""
        return column_texts(rows, self._column, self._name)

    def identity(self, split: str) -> tuple[str, ...]:
        """Hash of the file's content, the same for all its names, copies and columns, then the part if it is one."""
        self._form()
        whole = split in WHOLE or split == split_in(self._path)
        return ("file", _digest(self._path, self._path.stat().st_mtime_ns), *(() if whole else (split,)))

    def _check_texts(self, rows: list[Row]) -> None:
        column = self._column or (text_column(rows[0]) if rows else None)
        if column is None:
            return
        texts = column_texts(rows, column, self._name)
        empty = [number for number, text in enumerate(texts) if not text.strip()]
        if empty:
            place = place_of(rows[empty[0]], self._name, empty[0] + 1)
            others = f" (and in {len(empty) - 1:,} more rows)" if len(empty) > 1 else ""
            raise DataError(f"{place}: no text in column {column!r}{others}; give it text, or remove the row")

    def _form(self) -> Form:
        path = self._path
        if os.path.isdir(path):
            raise DataError(f"data set {self._name}: {path.absolute()} is a folder; name one file in it")
        if not os.path.isfile(path):
            raise DataError(f"data set {self._name}: no file {path.absolute()}; correct the path")
        form = form_of(path)
        if form is None:
            raise DataError(
                f"data set {self._name}: files named {plain_name(path).suffix or 'without a suffix'} are not read; "
                f"convert it to one of {', '.join(FORMS)}, each also {', '.join(COMPRESSIONS)}; plain text is .txt"
            )
        return form

    def _part(self, split: str, rows: list[Row]) -> str | None:
        """Part of the file that a split is; None for the whole file. Raises DataError if it has no such split."""
        if split in WHOLE:
            return None
        if _has_splits(rows):
            splits = sorted({row["split"] for row in rows})
            if split not in splits:
                raise missing_split(self._name, split, [*WHOLE, *splits])
            return split
        own = split_in(self._path)
        if split not in PARTS:
            raise missing_split(self._name, split, [*WHOLE, *PARTS])
        if own is None:
            return split
        if split != own:
            raise DataError(
                f"data set {self._name}: its name says that all of it is for {own}, so it has no split {split}; "
                f"write split: {own}, or rename the file"
            )
        return None


def split_in(path: Path) -> str | None:
    """Split that the name of a file ends in, ``test`` or ``validation``; None if it ends in neither."""
    match = _HELD_OUT.fullmatch(plain_name(path).stem)
    if match is None:
        return None
    return "test" if match["split"].lower() == "test" else "validation"


@lru_cache
def _digest(path: Path, changed: int) -> str:
    """Hash of a file's content, as long as it was ``changed`` at that time, in nanoseconds."""
    return blake2b(read_bytes(path), digest_size=16).hexdigest()


def dataset_label(name: str) -> str:
    """Name of a data set in metrics: a local file is named by its stem, ``texts/notes.csv.gz`` is ``notes``."""
    match = _LOCAL_NAME.fullmatch(name)
    return match["stem"] if match else name


def split_label(name: str, split: str) -> str:
    """Split of a data set in messages, such as ``split test``; the share of a part that is cut from a file follows."""
    file = LocalFile(name) if LocalFile.is_named_by(name) else None
    if file is None or split not in PARTS or not file.is_cut:
        return f"split {split}"
    return f"split {split} ({getattr(current().shares, split) * 100:.3g} % of the file; split: all is all of it)"


def _readings_of(name: str) -> list[tuple[Path, str | None]]:
    """Path and column of a name, for each ``#`` that may begin a column: files that exist, else those with a form."""
    marks = [at for at, character in enumerate(name) if character == "#" and at]
    written = [(name, None), *((name[:at], name[at + 1 :] or None) for at in reversed(marks))]
    found = [(local_path(path), column) for path, column in written if path]
    existing = [(path, column) for path, column in found if os.path.isfile(path)]
    return existing or [(path, column) for path, column in found if form_of(path) is not None]


def _has_splits(rows: list[Row]) -> bool:
    return bool(rows) and all(isinstance(row.get("split"), str) for row in rows)
