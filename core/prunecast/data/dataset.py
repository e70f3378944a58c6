"""Interface and helpers shared by all data sets."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunecast.errors import DataError

Row = dict[str, Any]
"""One row of a data set, by column name."""

TEXT_COLUMNS = ("text", "content", "sentence", "document", "article", "body")
"""Columns tried in this order as the text of a row if no column is named."""


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


def missing_split(name: str, split: str, splits: Iterable[str]) -> DataError:
    """Error for a split that a data set does not have."""
    return DataError(f"data set {name}: no split {split!r}; choose one of {', '.join(splits)}")


def column_texts(rows: list[Row], column: str | None, name: str) -> list[str]:
    """Text column of all rows: the named one, else the first of ``TEXT_COLUMNS``, else the only column of strings.

    Raises:
        DataError: there is no such column or no unique text column, or the column holds values other than strings.
    """
    if not rows:
        return []
    if column is None:
        strings = [key for key, value in rows[0].items() if isinstance(value, str)]
        known = [key for key in TEXT_COLUMNS if key in strings]
        column = known[0] if known else strings[0] if len(strings) == 1 else None
    texts = [row.get(column) for row in rows] if column is not None else [None]
    if not all(isinstance(text, str) for text in texts):
        wanted = f"column {column!r} is not text in every row" if column else "no unique text column"
        raise DataError(f"data set {name}: {wanted}; name one of {', '.join(rows[0])} as {name.split('#')[0]}#COLUMN")
    return [str(text) for text in texts]
