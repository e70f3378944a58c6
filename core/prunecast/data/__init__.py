"""Data sets behind one name: text, documents and rows to calibrate on, to measure with and to tune on.

A name is one of :data:`prunecast.data.catalog.CATALOG` (``wikitext2``, ``mmlu``, ...), ``python-docs``, which needs no
file at all, the path of a local ``.txt``, ``.md``, ``.jsonl`` or ``.jsonl.gz`` file, or any data set of the Hub
(``org/name``, ``hub:org/name:config#column``). A data folder, the argument ``data_dir`` or else the environment
variable ``PRUNECAST_DATA``, comes before the Hub.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from prunecast.data.catalog import CATALOG
from prunecast.data.dataset import DataSet, Row
from prunecast.data.files import LocalFile
from prunecast.data.hub import HubSet
from prunecast.data.instructions import Example, instruction_examples
from prunecast.data.python_docs import PythonDocs
from prunecast.data.tokens import content_hash, sample_windows, tokenize_head, tokenize_spread
from prunecast.errors import DataError

__all__ = [
    "DATA_SETS",
    "Example",
    "check_disjoint",
    "content_hash",
    "instruction_examples",
    "read_documents",
    "read_rows",
    "read_text",
    "sample_windows",
    "tokenize_head",
    "tokenize_spread",
]

DATA_SETS: tuple[str, ...] = (*CATALOG, "python-docs")
"""Names of the data sets that come with a layout of their own."""


def read_text(name: str, split: str, data_dir: str | Path | None = None) -> str:
    """One text: the documents of the split joined by blank lines.

    WikiText-2 is one document, its rows joined by a blank line (the usual perplexity text); PTB is one document, its
    lines stripped and joined by one space. A set of questions is one document too, each question with its right answer
    and none of the wrong ones.

    Args:
        name: name of the data set.
        split: a split it has, e.g. ``test``. A local file has only itself, whatever split is asked for.
        data_dir: folder that comes before the Hub; by default that of the environment variable ``PRUNECAST_DATA``.

    Raises:
        DataError: no such set or split, no text in it, or it cannot be had.
    """
    return "\n\n".join(read_documents(name, split, data_dir))


def read_documents(name: str, split: str, data_dir: str | Path | None = None) -> list[str]:
    """The documents of a split, at least one, in the order of the data set. Arguments and errors: :func:`read_text`."""
    data_set = _find(name)
    documents = data_set.documents(data_set.rows(split, _folder(data_dir)))
    if not any(document.strip() for document in documents):
        raise DataError(f"data set {name}, split {split}: no text in it; choose another data set or column")
    return documents


def read_rows(name: str, split: str, data_dir: str | Path | None = None) -> list[Row]:
    """The rows of a split, in the order of the data set.

    Multiple-choice sets have ``question`` (str), ``choices`` (list of str) and ``answer`` (index into ``choices``),
    MMLU also ``subject``; Alpaca has ``instruction``, ``input`` and ``output``; text has ``text``. Arguments and
    errors: :func:`read_text`.
    """
    return _find(name).rows(split, _folder(data_dir))


def check_disjoint(calibration: tuple[str, str], evaluation: Iterable[tuple[str, str]]) -> None:
    """Raise DataError if the calibration text is also evaluated.

    Args:
        calibration: (name, split) of the calibration text.
        evaluation: (name, split) of everything that is measured. The same file or the same split of the same data set
            counts as the same text, under whatever name, and so does a split of which the other is a part.
    """
    used = _find(calibration[0]).identity(calibration[1])
    for name, split in evaluation:
        if all(mine == theirs for mine, theirs in zip(_find(name).identity(split), used, strict=False)):
            raise DataError(
                f"data set {name}, split {split}: used for calibration and for evaluation; calibrate on another split "
                "or data set"
            )


def _find(name: str) -> DataSet:
    if name == "python-docs":
        return PythonDocs()
    if name in CATALOG:
        return CATALOG[name]
    if LocalFile.is_named_by(name):
        return LocalFile(name)
    if HubSet.is_named_by(name):
        return HubSet(name)
    close = get_close_matches(name, DATA_SETS, n=1)
    hint = f"did you mean {close[0]}" if close else f"choose one of {', '.join(DATA_SETS)}"
    raise DataError(
        f"data set {name!r}: unknown; {hint}, a .txt, .md or .jsonl(.gz) file, or a Hub data set (org/name)?"
    )


def _folder(data_dir: str | Path | None) -> Path | None:
    named = data_dir or os.environ.get("PRUNECAST_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        whence = "data_dir" if data_dir else "PRUNECAST_DATA"
        raise DataError(f"{whence} {folder}: no such folder; name the folder that holds the data sets, or leave it out")
    return folder
