"""Content of data files: decompression, UTF-8, and the rows of each form of file."""

import bz2
import codecs
import csv
import gzip
import io
import json
import logging
import lzma
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from prunecast.data.dataset import PlacedRow, Row
from prunecast.errors import DataError, one_line

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Suffixes of compressed files, lower case."""

_DECOMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}

_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)
"""Errors of decompressing a damaged file, or one with a password."""

_BOMS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"} | {
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Encodings by their byte-order mark; that of UTF-32 starts with that of UTF-16 and is tried first."""

_SPACE = re.compile(r"\s*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LINE = re.compile(r"(?:line|row) (\d+)")


# --------------------------------------------------------------------------------------------------- text and bytes


def read_bytes(path: Path) -> bytes:
    """Content of a file, decompressed as its last suffix says, in any case; a zip archive holds a single file.

    Raises:
        DataError: the file cannot be read, is damaged, or needs a package that is not installed.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".zip":
            return _unzipped(path)
        if suffix == ".zst":
            return _decompressed_zstandard(path)
        raw = path.read_bytes()
        return _DECOMPRESSED[suffix](raw) if suffix in _DECOMPRESSED else raw
    except _UNREADABLE as error:
        kind = f" {suffix}" if suffix in COMPRESSIONS else ""
        raise DataError(f"{path}: not a readable{kind} file ({one_line(error)}); replace it") from error


def _unzipped(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise DataError(f"{path}: holds {len(members)} files; unpack it, and name one of them")
        return archive.read(members[0])


def _decompressed_zstandard(path: Path) -> bytes:
    from fsspec.compression import compr

    if "zstd" not in compr:
        raise DataError(f"{path}: needs the package zstandard; pip install zstandard, or compress the file as .gz")
    with open(path, "rb") as file, compr["zstd"](file, mode="rb") as plain:
        return bytes(plain.read())


def read_utf8(path: Path) -> str:
    r"""Text of a file, decompressed, without a byte-order mark; every line ends in ``\n``.

    Raises:
        DataError: the file cannot be read, or is not UTF-8; the message names the line.
    """
    raw = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    for mark, encoding in _BOMS.items():
        if raw.startswith(mark):
            raise DataError(f"{path}:1: {encoding}; save the file as UTF-8")
    try:
        return _with_newlines(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = _with_newlines(raw[: error.start].decode("utf-8")).count("\n") + 1
        raise DataError(f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8") from error


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[Row]:
    """One row per line, its ``text`` with the newline kept. Raises DataError if the file is not UTF-8 text."""
    return [{"text": line + "\n"} for line in read_utf8(path).removesuffix("\n").split("\n")]


# ------------------------------------------------------------------------------------------------------------- JSON


def read_json(path: Path) -> list[Row]:
    """Objects of a JSON file: one per line, over several lines, or in one list; texts in a list are rows too.

    Rows are parsed here and not by ``datasets``, whose reader does not tell the line of a row, and takes some files
    of messages for a single row.

    Raises:
        DataError: the file cannot be read, a value is not a JSON object, or holds half a surrogate pair; the message
            names the line.
    """
    return [_json_row(value, place) for value, place in _json_values(read_utf8(path), path)]


def _json_values(text: str, path: Path) -> Iterator[tuple[Any, str]]:
    """The values of a text, or the items of the list it consists of, each with ``FILE:LINE``."""
    decoder = json.JSONDecoder()
    at = _skip_space(text, 0)
    listed = text.startswith("[", at)
    if listed:
        at = _skip_space(text, at + 1)
    line, counted = 1, 0
    while at < len(text) and not (listed and text[at] == "]"):
        line, counted = line + text.count("\n", counted, at), at
        place = f"{path}:{line}"
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "") or one_line(error)
            raise DataError(f"{place}: not valid JSON ({reason}); write one JSON object per line") from error
        _check_surrogates(value, text[at:end], place)
        yield value, place
        at = _skip_space(text, end)
        if listed:
            at = _next_item(text, at, place)
    if listed and _skip_space(text, at + 1) < len(text):
        raise DataError(f"{path}: text after the end of its list; write one list, or one JSON object per line")


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _next_item(text: str, at: int, place: str) -> int:
    if text.startswith(",", at):
        return _skip_space(text, at + 1)
    if text.startswith("]", at):
        return at
    raise DataError(f"{place}: no comma or end of the list after this item; the file is cut off or damaged")


def _check_surrogates(value: object, written: str, place: str) -> None:
    if _SURROGATE.search(written):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise DataError(f"{place}: {half} is half a surrogate pair, no character; remove or replace it") from error


def _json_row(value: object, place: str) -> Row:
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        raise DataError(f'{place}: not a JSON object; write every row as one, such as {{"text": "..."}}')
    return PlacedRow(value, lambda: place)


# ----------------------------------------------------------------------------------------------------------- tables


def read_csv(path: Path, separator: str) -> list[Row]:
    """Rows of a CSV file whose first line names the columns; an empty cell is None.

    Raises:
        DataError: the file is not UTF-8, a line has too many cells, or the columns are separated by something else.
    """
    text = read_utf8(path)
    header = text[: text.find("\n")] if "\n" in text else text
    other = next((each for each in ";\t|" if each in header and separator not in header), None)
    if other is not None and other != separator:
        wanted = "tabs" if separator == "\t" else "commas"
        raise DataError(f"{path}:1: columns seem to be separated by {other!r}; separate them by {wanted}")
    rows = _rows_by_datasets(path, "csv", sep=separator, keep_default_na=False, na_values=[""])
    return [PlacedRow(row, partial(_csv_place, path, text, separator, at)) for at, row in enumerate(rows)]


def read_table(path: Path, reader: str) -> list[Row]:
    """Rows of a Parquet or Arrow file. Raises DataError if it cannot be read."""
    rows = _rows_by_datasets(path, reader)
    return [PlacedRow(row, partial("{}: row {}".format, path, at + 1)) for at, row in enumerate(rows)]


def _rows_by_datasets(path: Path, reader: str, **options: object) -> list[Row]:
    """Rows of a file by a packaged reader of ``datasets``, which leaves nothing in its cache."""
    from datasets import load_dataset

    with TemporaryDirectory(prefix="prunecast-") as scratch:
        # Under a name of its own, because datasets takes brackets and the like in a name for a pattern.
        plain = Path(scratch) / f"data.{reader}"
        if path.suffix.lower() in COMPRESSIONS:
            plain.write_bytes(read_bytes(path))
        else:
            _link(path.resolve(), plain)
        try:
            with _silent_datasets():
                loaded = load_dataset(
                    reader, data_files=escape(str(plain)), split="train", streaming=True, cache_dir=scratch, **options
                )
                return [dict(row) for row in loaded]
        # Readers raise errors of pandas, pyarrow and datasets, of many types; all mean that the file is damaged.
        except Exception as error:
            reason = one_line(error).replace(str(plain), path.name)
            line = _LINE.search(reason)
            where = f"{path}:{line[1]}" if line and reader == "csv" else str(path)
            raise DataError(f"{where}: not a readable {reader} file ({reason}); correct or replace it") from error


def _link(path: Path, link: Path) -> None:
    try:
        link.symlink_to(path)
    except OSError:  # not allowed everywhere
        shutil.copyfile(path, link)


@contextmanager
def _silent_datasets() -> Iterator[None]:
    """No log lines of ``datasets``: the errors it logs are raised too."""
    logger = logging.getLogger("datasets")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _csv_place(path: Path, text: str, separator: str, row: int) -> str:
    """``FILE:LINE`` of the first line of a row, counted from 0 after the header; blank lines are no rows."""
    limit = csv.field_size_limit(max(len(text), 1))
    try:
        reader = csv.reader(io.StringIO(text), delimiter=separator)
        start, seen = 1, -2
        for cells in reader:
            seen += bool(cells)
            if seen == row and cells:
                return f"{path}:{start}"
            start = reader.line_num + 1
    except csv.Error:
        pass
    finally:
        csv.field_size_limit(limit)
    return f"{path}: row {row + 1}"


# ------------------------------------------------------------------------------------------------------------ forms


class Form(NamedTuple):
    """A form of data file: its rows are documents, or its whole text is one."""

    has_rows: bool
    read: Callable[[Path], list[Row]]


def _read_text(path: Path) -> list[Row]:
    return [PlacedRow({"text": read_utf8(path)}, lambda: str(path))]


_TEXT = Form(False, _read_text)
_JSON = Form(True, read_json)

FORMS: dict[str, Form] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst"), _TEXT),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), _JSON),
    ".csv": Form(True, partial(read_csv, separator=",")),
    ".tsv": Form(True, partial(read_csv, separator="\t")),
    ".parquet": Form(True, partial(read_table, reader="parquet")),
    ".arrow": Form(True, partial(read_table, reader="arrow")),
}
"""Forms by suffix, lower case; each may be compressed, ``.csv.gz`` for one."""


def form_of(path: Path) -> Form | None:
    """Form of a file by its name, in any case; None if there is no such form."""
    return FORMS.get(plain_name(path).suffix.lower())


def plain_name(path: Path) -> Path:
    """Path without the suffix of a compression."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSIONS and path.stem else path
