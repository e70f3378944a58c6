"""What all data sets have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunecast.errors import DataError

Row = dict[str, Any]
"""One row of a data set, by column name."""

TEXT_COLUMNS = ("text", "content", "sentence", "document", "article", "body")
"""Columns taken for the text of a row if none is named, in this order."""


class DataSet(ABC):
    """A data set under one name."""

    @abstractmethod
    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """All rows of a split, in order.

        Args:
            split: the split.
            folder: data folder to look in before the Hub, or None.

        Raises:
            DataError: the set has no such split, or it cannot be had.
        """

    @abstractmethod
    def documents(self, rows: list[Row]) -> list[str]:
        """The text of rows, as documents. Raises DataError for rows without text."""

    @abstractmethod
    def identity(self, split: str) -> tuple[str, ...]:
        """What is equal for two names of the same text, and begins like that of a text it is a part of."""


def missing_split(name: str, split: str, splits: Iterable[str]) -> DataError:
    """The error for a split that a set does not have."""
    return DataError(f"data set {name}: no split {split!r}; choose one of {', '.join(splits)}")


def column_texts(rows: list[Row], column: str | None, name: str) -> list[str]:
    """One column of all rows: the named one, else the first of ``TEXT_COLUMNS``, else the only column of strings.

    Raises:
        DataError: there is no such column, it holds something else than strings, or the choice is not clear.
    """
    if not rows:
        return []
    if column is None:
        strings = [key for key, value in rows[0].items() if isinstance(value, str)]
        known = [key for key in TEXT_COLUMNS if key in strings]
        column = known[0] if known else strings[0] if len(strings) == 1 else None
    texts = [row.get(column) for row in rows] if column is not None else [None]
    if not all(isinstance(text, str) for text in texts):
        wanted = f"column {column!r} is not text in every row" if column else "no column is clearly the text"
        raise DataError(f"data set {name}: {wanted}; name one of {', '.join(rows[0])} as {name.split('#')[0]}#COLUMN")
    return [str(text) for text in texts]
