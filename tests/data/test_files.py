"""Data files: every form and compression gives the same documents; a bad row is named with its file and line."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest

from prunecast.data import read_documents, read_rows, read_text
from prunecast.errors import DataError

DOCUMENTS = ["one, with a comma", 'two "quoted"\nover two lines', "three: ünïcode \u2028 and NA", "null", "12"]


def as_json(rows: list[dict[str, object]]) -> bytes:
    return json.dumps(rows).encode()


def as_lines(rows: list[dict[str, object]]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def as_table(rows: list[dict[str, object]], separator: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator)
    writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_arrow(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(rows), sink, compression="uncompressed")
    return sink.getvalue()


def as_zip(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("inside", content)
    return sink.getvalue()


FORMS: dict[str, Callable[[list[dict[str, object]]], bytes]] = {
    "json": as_json,
    "jsonl": as_lines,
    "ndjson": as_lines,
    "csv": as_table,
    "tsv": lambda rows: as_table(rows, "\t"),
    "parquet": as_parquet,
    "arrow": as_arrow,
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": as_zip,
}


@pytest.fixture(autouse=True)
def unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading own files writes to no cache: it is a file here, so that even root cannot."""
    (tmp_path / "no-cache").write_text("")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "no-cache")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", PACKED)
def test_every_form_gives_the_same_documents(tmp_path: Path, form: str, packed: str) -> None:
    rows: list[dict[str, object]] = [{"id": number, "text": text} for number, text in enumerate(DOCUMENTS)]
    for name in (f"own.{form}{packed}", f"OWN [1]*.{form}{packed}".upper()):
        (tmp_path / name).write_bytes(PACKED[packed](FORMS[form](rows)))
        assert read_documents(str(tmp_path / name), "all") == DOCUMENTS


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", [".txt", ".TEXT", ".Md"])
def test_a_text_is_one_document_whatever_its_line_ends_and_mark(tmp_path: Path, suffix: str, packed: str) -> None:
    path = tmp_path / f"own{suffix}{packed}"
    path.write_bytes(PACKED[packed](b"\xef\xbb\xbfone\r\ntwo\rthree\n"))
    assert read_text(str(path), "all") == "one\ntwo\nthree\n"


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "tsv"])
def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"own.{form}"
    path.write_bytes(b"\xef\xbb\xbf" + FORMS[form]([{"text": "a"}, {"text": "b"}]))
    assert read_rows(str(path), "all") == [{"text": "a"}, {"text": "b"}]


def test_json_may_be_a_list_of_texts_or_objects_over_several_lines(tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text('\n["a", "b"]\n')
    (tmp_path / "long.json").write_text('{\n "text": "a"\n}\n{"text":\n"b"}')
    (tmp_path / "lines.json").write_text('{"text": "a"}\n\n{"text": "b"}\n')
    for name in ("texts", "long", "lines"):
        assert read_documents(str(tmp_path / f"{name}.json"), "all") == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("null.jsonl", b'{"text": "a"}\n\n{"text": null}\n', "null.jsonl:3: column 'text' is null"),
        ("null.json", b'[{"text": "a"},\n {"text": "b"},\n {"text": null}]', "null.json:3: column 'text' is null"),
        ("first.jsonl", b'{"text": null}\n{"text": "a"}\n', "first.jsonl:1: column 'text' is null"),
        (
            "empty.jsonl",
            b'{"text": "a"}\n{"text": " "}\n{"text": ""}',
            r"empty.jsonl:2: no text .*\(and in 1 more rows\)",
        ),
        ("number.jsonl", b'{"text": "a"}\n{"text": 3}\n', "number.jsonl:2: column 'text' is no text, but int"),
        ("gone.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "gone.jsonl:2: no column 'text'; name one of txt as"),
        ("half.jsonl", b'{"text": "a"}\n{"text": "x \\uD83D y"}', r"half.jsonl:2: \\ud83d is half a surrogate pair"),
        ("half.json", b'["a",\n"b",\n"\\udc00"]', r"half.json:3: \\udc00 is half a surrogate pair"),
        ("deep.jsonl", b'{"text": "a", "tags": ["\\ud800"]}', r"deep.jsonl:1: \\ud800 is half a surrogate pair"),
        ("cut.jsonl", b'{"text": "a"}\n{"text": "b', "cut.jsonl:2: not valid JSON"),
        ("cut.json", b'[{"text": "a"},\n{"text": "b"}', "cut.json:2: no comma or end of the list"),
        ("more.json", b'["a"]\n["b"]', "more.json: text after the end of its list"),
        ("list.jsonl", b'{"text": "a"}\n7\n', "list.jsonl:2: not a JSON object"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}', "latin.jsonl:2: byte 0xe9 is not UTF-8"),
        ("latin.csv", b'text\r\na\r\n"caf\xe9"\r\n', "latin.csv:3: byte 0xe9 is not UTF-8"),
        ("wide.txt", "text".encode("utf-16"), "wide.txt:1: UTF-16; save the file as UTF-8"),
        ("surrogate.txt", b"one\ntwo \xed\xa0\xbd\n", "surrogate.txt:2: byte 0xed is not UTF-8"),
        ("null.csv", b'id,text\n1,"a\nb"\n\n2,\n3,c\n', "null.csv:5: column 'text' is null"),
        ("wide.csv", b"id,text\n1,a\n2,b,c\n", "wide.csv:3: not a readable csv file"),
        ("other.csv", b"id;text\n1;a\n", "other.csv:1: columns seem to be separated by ';'; separate them by commas"),
        ("bad.parquet", b"PAR1 no", "bad.parquet: not a readable parquet file"),
        ("null.parquet", as_parquet([{"text": "a"}, {"text": None}]), "null.parquet: row 2: column 'text' is null"),
        ("bad.jsonl.gz", b"plain", "bad.jsonl.gz: not a readable .gz file"),
        ("bad.txt.zip", as_zip(b"a")[:-30], "bad.txt.zip: not a readable .zip file"),
        ("two.jsonl", b'{"left": "a", "right": "b"}', "name one of left, right as .*two.jsonl#COLUMN"),
        ("chat.jsonl", b'{"messages": []}', r"none of its columns is text \(messages\)"),
        ("table.xlsx", b"PK", "files named .xlsx are not read; convert it to one of .txt, .*plain text is .txt"),
        ("README", b"text", "files named without a suffix are not read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_a_bad_file_is_one_line_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_text(str(tmp_path / name), "all")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_row_is_told_in_whatever_part_it_falls(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps({"text": None if n == 30 else f"text {n}"}) for n in range(60)))
    for split in ("train", "validation", "test"):
        with pytest.raises(DataError, match=r"own\.jsonl:31: column 'text' is null"):
            read_text(str(path), split)


def test_a_zip_archive_of_several_files_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "own.txt.zip", "w") as archive:
        archive.writestr("a.txt", "a")
        archive.writestr("b.txt", "b")
    with pytest.raises(DataError, match=r"own\.txt\.zip: holds 2 files; unpack it"):
        read_text(str(tmp_path / "own.txt.zip"), "all")


def test_a_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"text": "\\ud83d\\ude00"}')
    assert read_text(str(tmp_path / "own.jsonl"), "all") == "\U0001f600"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "own.csv").write_bytes(as_table([{"text": "a"}]))
    assert read_text(str(tmp_path / "own.csv"), "all") == "a"
    assert os.listdir(tmp_path / "scratch") == []
