"""The reference pages that every CPython carries, as a data set that needs no file."""

from hashlib import blake2b
from pathlib import Path

from prunecast.data.dataset import DataSet, Row, missing_split

_TENTHS = {"calibration": range(6), "validation": range(6, 8), "test": range(8, 10)}
_SALT = b"python-docs 23"
"""Chosen because it gives every split close to 100 kB of text or more from Python 3.10 to 3.13."""


class PythonDocs(DataSet):
    """Help topics of the interpreter: calibration, validation and test text that share no topic and no paragraph.

    A topic always falls into the same split. Topics repeat each other's paragraphs; a paragraph stays in the first
    topic only, so that no split sees text of another. The text depends on the Python version.
    """

    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """``topic`` and ``text`` of each topic of the split, sorted by topic."""
        if split not in _TENTHS:
            raise missing_split("python-docs", split, _TENTHS)
        return [{"topic": t, "text": x} for t, x in _distinct_topics() if _tenth(t) in _TENTHS[split]]

    def documents(self, rows: list[Row]) -> list[str]:
        """The text of each topic."""
        return [row["text"] for row in rows]

    def identity(self, split: str) -> tuple[str, ...]:
        """The split."""
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
