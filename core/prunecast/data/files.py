"""Local text and JSON Lines files as data sets, and the readers of files in a data folder."""

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
        name: path of the file, followed by ``#column`` to select the text column of a JSON Lines file.
    """

    def __init__(self, name: str) -> None:
        path, _, column = name.partition("#")
        self._name, self._path, self._column = name, Path(path).expanduser(), column or None

    @staticmethod
    def is_named_by(name: str) -> bool:
        """True if the name is the path of a file with a suffix that this class reads."""
        return name.partition("#")[0].endswith(_TEXT_ENDINGS + _ROWS_ENDINGS)

    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """Rows of a JSON Lines file, or one row with the ``text`` of a text file; the split is ignored."""
        if not self._path.is_file():
            raise DataError(f"data set {self._name}: no file {self._path.absolute()}; correct the path")
        if self._path.name.endswith(_ROWS_ENDINGS):
            return read_jsonl(self._path)
        return [{"text": read_utf8(self._path)}]

    def documents(self, rows: list[Row]) -> list[str]:
        """Text column of each row."""
        return column_texts(rows, self._column, self._name)

    def identity(self, split: str) -> tuple[str, ...]:
        """Resolved path of the file, the same for all splits and columns."""
        return ("file", str(self._path.resolve()))


def read_lines(path: Path) -> list[Row]:
    """One row per line, its ``text`` with the newline kept. Raises DataError if the file is not UTF-8 text."""
    return [{"text": line + "\n"} for line in read_utf8(path).removesuffix("\n").split("\n")]


def read_utf8(path: Path) -> str:
    """Text of a file. Raises DataError if it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable UTF-8 text file ({error}); replace or convert it") from error


def read_jsonl(path: Path) -> list[Row]:
    """Objects of a JSON Lines file, gzip-compressed if its name ends in ``.gz``.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object; the message names the line.
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
        raise DataError(f"{where}: not valid JSON ({error}); every line must be a JSON object") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object; every line must be one")
    return row
