"""Data set of the reference pages that are part of every CPython; it needs no file."""

from hashlib import blake2b
from pathlib import Path

from prunecast.data.dataset import DataSet, Row, missing_split

_TENTHS = {"calibration": range(6), "validation": range(6, 8), "test": range(8, 10)}
_SALT = b"python-docs 23"
"""Salt of the hash that assigns topics to splits; with it every split has about 100 kB of text or more in Python 3.10
to 3.13."""


class PythonDocs(DataSet):
    """Help topics of the interpreter, in calibration, validation and test splits that share no topic and no paragraph.

    A hash of its name assigns each topic to a split. A paragraph that several topics contain is kept only in the first
    of them, so that splits do not overlap. The text depends on the Python version.
    """

    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """``topic`` and ``text`` of each topic of the split, sorted by topic."""
        if split not in _TENTHS:
            raise missing_split("python-docs", split, _TENTHS)
        return [{"topic": t, "text": x} for t, x in _distinct_topics() if _tenth(t) in _TENTHS[split]]

    def documents(self, rows: list[Row]) -> list[str]:
        """Text of each topic."""
        return [row["text"] for row in rows]

    def identity(self, split: str) -> tuple[str, ...]:
        """Name of the data set and the split."""
        return ("python-docs", split)


def _tenth(topic: str) -> int:
    return int.from_bytes(blake2b(topic.encode(), digest_size=8, salt=_SALT).digest(), "big") % 10


def _distinct_topics() -> list[tuple[str, str]]:
    from pydoc_data.topics import topics

    seen: set[str] = set()
    distinct = []
    for topic in sorted(topics):
        kept = []
        for paragraph in topics[topic].strip().split("\n\n"):
            words = " ".join(paragraph.split())
            if words not in seen:
                kept.append(paragraph)
            seen.add(words)
        if kept:
            distinct.append((topic, "\n\n".join(kept)))
    return distinct
