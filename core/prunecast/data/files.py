"""Data in files: a local text or JSON Lines file, and the readers of a data folder."""

import gzip
import json
from pathlib import Path

from prunecast.data.dataset import DataSet, Row, column_texts
from prunecast.errors import DataError

_TEXT_ENDINGS = (".txt", ".md")
_ROWS_ENDINGS = (".jsonl", ".jsonl.gz")


class LocalFile(DataSet):
    """A text file, which is one document, or a JSON Lines file with a document in each row.

    Args:
        name: path, with ``#column`` after it if the column of a JSON Lines file has to be named.
    """

    def __init__(self, name: str) -> None:
        path, _, column = name.partition("#")
        self._name, self._path, self._column = name, Path(path).expanduser(), column or None

    @staticmethod
    def is_named_by(name: str) -> bool:
        """Whether the ending is that of a file this class reads."""
        return name.partition("#")[0].endswith(_TEXT_ENDINGS + _ROWS_ENDINGS)

    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """The rows of a JSON Lines file, or one row with the ``text`` of a text file, whatever the split."""
        if not self._path.is_file():
            raise DataError(f"data set {self._name}: no file {self._path.absolute()}; correct the path")
        if self._path.name.endswith(_ROWS_ENDINGS):
            return read_jsonl(self._path)
        return [{"text": read_utf8(self._path)}]

    def documents(self, rows: list[Row]) -> list[str]:
        """The text column of each row."""
        return column_texts(rows, self._column, self._name)

    def identity(self, split: str) -> tuple[str, ...]:
        """The file: its splits and columns are not told apart."""
        return ("file", str(self._path.resolve()))


def read_lines(path: Path) -> list[Row]:
    """One row a line, its ``text`` with the newline kept. Raises DataError if the file is not UTF-8 text."""
    return [{"text": line + "\n"} for line in read_utf8(path).removesuffix("\n").split("\n")]


def read_utf8(path: Path) -> str:
    """The text of a file. Raises DataError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable UTF-8 text file ({error}); replace or convert it") from error


def read_jsonl(path: Path) -> list[Row]:
    """The objects of a JSON Lines file, gzip-compressed if its name ends in ``.gz``.

    Raises:
        DataError: the file is damaged, or a line is no JSON object; names the line.
    """
    opener = gzip.open if path.name.endswith(".gz") else open
    rows: list[Row] = []
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    rows.append(_row(line, f"{path}:{number}"))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable JSON Lines file ({error}); replace it") from error
    return rows


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: no JSON ({error}); every line has to be a JSON object") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: no JSON object; every line has to be one")
    return row
