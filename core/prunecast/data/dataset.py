"""Interface and helpers shared by all data sets."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from prunecast.errors import DataError

Row = dict[str, Any]
"""One row of a data set, by column name."""

TEXT_COLUMNS = ("text", "content", "sentence", "document", "article", "body")
"""Columns tried in this order as the text of a row if no column is named."""


class PlacedRow(dict[str, Any]):
    """A row of a local file, with a function that tells its place, such as ``notes.jsonl:51``."""

    def __init__(self, row: Mapping[str, Any], place: Callable[[], str]) -> None:
        super().__init__(row)
        self.place = place


def place_of(row: Row, name: str, number: int) -> str:
    """Place of a row for messages: file and line, or the data set's name and the row's number, counted from 1."""
    return row.place() if isinstance(row, PlacedRow) else f"data set {name}, row {number}"


class DataSet(ABC):
    """A named data set with rows in splits."""

    @abstractmethod
    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """All rows of a split, in order.

        Args:
            split: name of the split.
            folder: data folder searched before the Hub, or None.

        Raises:
            DataError: the data set has no such split, or the split cannot be loaded.
        """

    @abstractmethod
    def documents(self, rows: list[Row]) -> list[str]:
        """Documents of the rows, as text. Raises DataError if the rows have no text."""

    @abstractmethod
    def identity(self, split: str) -> tuple[str, ...]:
        """Identity of the text of a split, for :func:`prunecast.data.check_disjoint`.

        Two names of the same text have equal identities. The identity of a part of a text starts with that of the text.
        """

    def hub_id(self, split: str) -> tuple[str, str | None] | None:
        """Id and configuration under which the Hub has the split; None for a data set that is not from there."""
        return None


def missing_split(name: str, split: str, splits: Iterable[str]) -> DataError:
    """Error for a split that a data set does not have."""
    return DataError(f"data set {name}: no split {split!r}; choose one of {', '.join(splits)}")


def text_column(row: Row) -> str | None:
    """Column of the text: the first of ``TEXT_COLUMNS``, else the only column of text; None if there are several."""
    strings = [key for key, value in row.items() if isinstance(value, str)]
    known = [key for key in TEXT_COLUMNS if key in row and isinstance(row[key], str | None)]
    return known[0] if known else strings[0] if len(strings) == 1 else None


def column_texts(rows: list[Row], column: str | None, name: str) -> list[str]:
    """Text column of all rows: the named one, else that of :func:`text_column` in the first row.

    Raises:
        DataError: there is no such column or no unique text column, or a value is not text; names the first such row.
    """
    if not rows:
        return []
    chosen = text_column(rows[0]) if column is None else column
    if chosen is None:
        raise DataError(f"data set {name}: no unique text column; {_columns_to_name(rows[0], name)}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(chosen), str):
            place = place_of(row, name, number)
            if chosen not in row:
                raise DataError(f"{place}: no column {chosen!r}; {_columns_to_name(row, name)}")
            found = "null" if row[chosen] is None else f"no text, but {type(row[chosen]).__name__}"
            raise DataError(f"{place}: column {chosen!r} is {found}; give it text, or remove the row")
    return [row[chosen] for row in rows]


def _columns_to_name(row: Row, name: str) -> str:
    texts = [key for key, value in row.items() if isinstance(value, str)]
    if not texts:
        return f"none of its columns is text ({', '.join(row) or 'it has none'}); write the text into a column text"
    return f"name one of {', '.join(texts)} as {name.split('#')[0]}#COLUMN"
