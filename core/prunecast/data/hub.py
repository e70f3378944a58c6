"""Data sets of the Hugging Face Hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from prunecast.data.dataset import DataSet, Row, column_texts
from prunecast.errors import DataError
from prunecast.hub import hub_or_its_cache, why_unavailable

_NAME = re.compile(
    r"(?:hub:)?(?P<path>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:#(?P<column>.+))?|"
    r"hub:(?P<short>[\w.-]+)(?::(?P<short_config>[\w.-]+))?(?:#(?P<short_column>.+))?"
)


@dataclass(frozen=True)
class HubPart:
    """One split of a data set of the Hub.

    Attributes:
        path: ``org/name``.
        config: name of the configuration, if the data set has several.
        split: name of the split.
        revision: branch or commit; None for the newest.
        first: number of rows to stream, for data sets too large to download; None for all rows.
    """

    path: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    first: int | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """Identity of the text, equal for two names of the same text."""
        return ("hub", self.path.lower(), self.config or "", self.split)

    def rows(self) -> list[Row]:
        """All rows, downloaded or from the local cache of the Hub; respects ``HF_HUB_OFFLINE``.

        Raises:
            DataError: the rows cannot be loaded.
        """
        from datasets import load_dataset

        try:
            with hub_or_its_cache():
                loaded = load_dataset(
                    self.path, self.config, split=self.split, revision=self.revision, streaming=self.first is not None
                )
                return [dict(row) for row in (loaded if self.first is None else loaded.take(self.first))]
        # The library, the network and loading scripts raise errors of many types; all mean that the data are missing.
        except Exception as error:
            raise DataError(f"Hub data set {self.path}, split {self.split}: {why_unavailable(error)}") from error


class HubSet(DataSet):
    """Any data set of the Hub.

    Args:
        name: ``org/name``, ``hub:name`` or ``hub:org/name:config#column``.
    """

    def __init__(self, name: str) -> None:
        match = _NAME.fullmatch(name)
        if match is None:
            raise DataError(f"data set {name!r}: not a valid name of a Hub data set; write hub:org/name:config#column")
        self._name = name
        self._path: str = match["path"] or match["short"]
        self._config: str | None = match["config"] or match["short_config"]
        self._column: str | None = match["column"] or match["short_column"]

    @staticmethod
    def is_named_by(name: str) -> bool:
        """True if the name has the form of a data set of the Hub."""
        return name.startswith("hub:") or _NAME.fullmatch(name) is not None

    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """All rows of the split."""
        try:
            return HubPart(self._path, self._config, split).rows()
        except DataError as error:
            raise DataError(
                f"{error}; check name, config and split (calibration text is usually in split train), or go online"
            ) from error

    def documents(self, rows: list[Row]) -> list[str]:
        """Text column of each row."""
        return column_texts(rows, self._column, self._name)

    def identity(self, split: str) -> tuple[str, ...]:
        """Path, config and split."""
        return HubPart(self._path, self._config, split).identity

    def hub_id(self, split: str) -> tuple[str, str | None] | None:
        """Path and config."""
        return self._path, self._config
