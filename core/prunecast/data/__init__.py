"""Data sets by name: text, documents and rows for calibration, evaluation and fine-tuning.

A name is one of

- a data set of :data:`prunecast.data.catalog.CATALOG` (``wikitext2``, ``mmlu``, ...);
- ``python-docs``, which needs no file;
- the path of a local file (``.txt``, ``.md``, ``.json``, ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet``, ..., each also
  compressed), with ``#column`` for the text column of its rows;
- a data set of the Hugging Face Hub (``org/name``, ``hub:org/name:config#column``).

The data folder is the argument ``data_dir`` or else the environment variable ``PRUNECAST_DATA``. It is searched before
the Hub.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from prunecast.data.catalog import CATALOG
from prunecast.data.dataset import DataSet, Row, place_of
from prunecast.data.files import FORMS
from prunecast.data.hub import HubSet
from prunecast.data.instructions import Example, instruction_examples
from prunecast.data.local import LocalFile, dataset_label, split_label
from prunecast.data.python_docs import PythonDocs
from prunecast.data.reading import Reading, Shares, local_path, reading
from prunecast.data.tokens import (
    check_embedded,
    content_hash,
    encode,
    sample_windows,
    tokenize_head,
    tokenize_spread,
)
from prunecast.errors import DataError

__all__ = [
    "DATA_SETS",
    "Example",
    "Reading",
    "Shares",
    "check_disjoint",
    "check_embedded",
    "content_hash",
    "dataset_label",
    "encode",
    "hub_id",
    "instruction_examples",
    "local_path",
    "overlap",
    "place_of",
    "read_documents",
    "read_rows",
    "read_text",
    "reading",
    "sample_windows",
    "split_label",
    "tokenize_head",
    "tokenize_spread",
]

DATA_SETS: tuple[str, ...] = (*CATALOG, "python-docs")
"""Names of the built-in data sets."""


def read_text(name: str, split: str, data_dir: str | Path | None = None) -> str:
    """Text of a split: its documents joined by blank lines.

    WikiText-2 is one document, its rows joined by a blank line (the usual perplexity text). PTB is one document, its
    lines stripped and joined by one space. A multiple-choice set is one document, each question with its correct answer
    only.

    Args:
        name: name of the data set.
        split: name of a split, e.g. ``test``; a local file without splits is cut into ``train``, ``validation`` and
            ``test``, and is ``all`` as a whole.
        data_dir: folder searched before the Hub; by default the one in the environment variable ``PRUNECAST_DATA``.

    Raises:
        DataError: the data set, the split or the folder does not exist, the split has no text, or it cannot be loaded.
    """
    return "\n\n".join(read_documents(name, split, data_dir))


def read_documents(name: str, split: str, data_dir: str | Path | None = None) -> list[str]:
    """Documents of a split, at least one, in the order of the data set. Arguments and errors: :func:`read_text`."""
    data_set = _find(name)
    documents = data_set.documents(data_set.rows(split, _folder(data_dir)))
    if not any(document.strip() for document in documents):
        raise DataError(f"data set {name}, split {split}: no text in it; choose another data set or column")
    return documents


def read_rows(name: str, split: str, data_dir: str | Path | None = None) -> list[Row]:
    """Rows of a split, in the order of the data set.

    Multiple-choice sets have ``question`` (str), ``choices`` (list of str) and ``answer`` (index into ``choices``),
    MMLU also ``subject``; Alpaca has ``instruction``, ``input`` and ``output``; text has ``text``. Arguments and
    errors: :func:`read_text`.
    """
    return _find(name).rows(split, _folder(data_dir))


def hub_id(name: str, split: str) -> tuple[str, str | None] | None:
    """Id and configuration under which the Hub has a split of a data set; None if it is not from there.

    Raises:
        DataError: the name is unknown.
    """
    return _find(name).hub_id(split)


def check_disjoint(calibration: tuple[str, str], evaluation: Iterable[tuple[str, str]]) -> None:
    """Raise DataError if the calibration text overlaps an evaluation text.

    Args:
        calibration: (name, split) of the calibration text.
        evaluation: (name, split) of each evaluation text.

    Raises:
        DataError: a text overlaps the calibration text, or a name is unknown.
    """
    for name, split in evaluation:
        if overlap(calibration, (name, split)):
            raise DataError(
                f"data set {name}, split {split}: used for calibration and for evaluation; calibrate on another split "
                "or data set"
            )


def overlap(first: tuple[str, str], second: tuple[str, str]) -> bool:
    """True if two texts, each given as (name, split), overlap.

    They do if they are the same file (or a copy of it) or the same split of the same data set, even under different
    names, or if one is a part of the other. Raises DataError if a name is unknown.
    """
    identities = (_find(name).identity(split) for name, split in (first, second))
    return all(mine == theirs for mine, theirs in zip(*identities, strict=False))


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
    if os.path.isdir(local_path(name)):
        raise DataError(f"data set {name}: {local_path(name).absolute()} is a folder; name one file in it")
    raise DataError(
        f"data set {name!r}: unknown; {hint}, a file ({', '.join(FORMS)}, each also compressed), or a Hub data set "
        "(org/name)?"
    )


def _folder(data_dir: str | Path | None) -> Path | None:
    named = data_dir or os.environ.get("PRUNECAST_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        setting = "data_dir" if data_dir else "PRUNECAST_DATA"
        raise DataError(
            f"{setting} {folder}: no such folder; name the folder that holds the data sets, or leave it out"
        )
    return folder
