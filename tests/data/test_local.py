"""Local files: names with columns, splits that are cut or named, labels in metrics, overlaps."""

import hashlib
import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from prunecast.data import Reading, Shares, check_disjoint, dataset_label, read_documents, read_rows, read_text, reading
from prunecast.data.local import split_in
from prunecast.errors import DataError

PARTS = ("train", "validation", "test")


def write_rows(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A file of 200 documents, each of them unlike the others."""
    return write_rows(tmp_path / "own.jsonl", [{"id": n, "text": f"document {n}"} for n in range(200)])


# ------------------------------------------------------------------------------------------------------------- names


def test_a_number_sign_may_be_part_of_the_name(tmp_path: Path) -> None:
    rows = [{"text": "text", "note": "note"}]
    write_rows(tmp_path / "a#b.jsonl", rows)
    write_rows(tmp_path / "c.jsonl#note.jsonl", rows)
    write_rows(tmp_path / "c.jsonl", [{"text": "other", "note": "wrong"}])
    for name, text in {
        "a#b.jsonl": "text",
        "a#b.jsonl#note": "note",
        "c.jsonl#note": "wrong",
        "c.jsonl#note.jsonl": "text",
        "c.jsonl#note.jsonl#note": "note",
    }.items():
        assert read_documents(f"{tmp_path}/{name}", "all") == [text]


def test_a_missing_file_or_a_folder_is_told_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts.csv").mkdir()
    for name, message in {
        "gone.csv.xz": f"no file {tmp_path}/gone.csv.xz",
        "gone.json#note": f"no file {tmp_path}/gone.json",
        "texts": f"{tmp_path}/texts is a folder",
        "texts.csv": f"{tmp_path}/texts.csv is a folder",
        "x" * 300: "unknown",
    }.items():
        with pytest.raises(DataError, match=message):
            read_text(name, "all")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("texts/notes.csv", "notes"),
        ("/a/NOTES.JSONL.GZ", "NOTES"),
        ("a#b.parquet#text", "a#b"),
        ("v1.2.json.zst", "v1.2"),
        (r"C:\texts\notes.tsv.bz2#text", "notes"),
        ("wikitext2", "wikitext2"),
        ("org/name:config#text", "org/name:config#text"),
    ],
)
def test_a_file_is_named_by_its_stem_in_metrics(name: str, label: str) -> None:
    assert dataset_label(name) == label


# ------------------------------------------------------------------------------------------------------------ splits


def test_parts_are_disjoint_whole_and_90_5_5(own: str) -> None:
    parts = {part: read_documents(own, part) for part in PARTS}
    assert {part: len(texts) for part, texts in parts.items()} == {"train": 180, "validation": 10, "test": 10}
    together = list(chain(*parts.values()))
    assert sorted(together) == sorted(read_documents(own, "all")) == sorted(read_documents(own, "calibration"))
    assert len(set(together)) == 200
    assert parts["test"] == sorted(parts["test"], key=lambda text: int(text.split()[1]))


def test_parts_are_the_same_on_every_machine(own: str) -> None:
    # What a machine found; neither the hash seed nor the folder plays a part.
    digest = hashlib.blake2b(read_text(own, "test").encode(), digest_size=8).hexdigest()
    assert digest == "e10a18a2a5ebefe3"
    code = f"from prunecast.data import read_text; print(read_text({own!r}, 'test'))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.rstrip("\n") == read_text(own, "test")


def test_equal_documents_are_in_one_part(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": n, "text": f"document {n % 40}"} for n in range(400)]
    path = write_rows(tmp_path / "own.jsonl", rows)
    parts = [set(read_documents(path, part)) for part in PARTS]
    assert [len(texts) for texts in parts] == [36, 2, 2]
    assert len(set.union(*parts)) == 40


def test_rows_of_a_part_do_not_depend_on_their_order_or_the_column_read(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": f"text {n}", "note": f"note {n}"} for n in range(100)]
    there = write_rows(tmp_path / "there.jsonl", rows)
    back = write_rows(tmp_path / "back.jsonl", rows[::-1])
    assert read_rows(there, "test") == read_rows(back, "test")[::-1]
    assert [text.replace("note", "text") for text in read_documents(f"{there}#note", "test")] == read_documents(
        there, "test"
    )


def test_shares_can_be_told(own: str) -> None:
    with reading(Reading(shares=Shares(0.5, 0.3, 0.2))):
        assert [len(read_documents(own, part)) for part in PARTS] == [100, 60, 40]
    with reading(Reading(shares=Shares(0.8, 0.2, 0.0))):
        assert [len(read_documents(own, part)) for part in PARTS[:2]] == [160, 40]
        with pytest.raises(DataError, match=r"split test: the part test has no share; give it one under splits"):
            read_documents(own, "test")
    assert len(read_documents(own, "train")) == 180


def test_a_text_is_cut_between_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {n} of this text.\nIts second line." for n in range(400)]
    (tmp_path / "own.txt").write_text("\n\n".join(paragraphs))
    parts = [read_text(str(tmp_path / "own.txt"), part) for part in PARTS]
    assert "".join(parts) == read_text(str(tmp_path / "own.txt"), "all")
    found = [part.strip().split("\n\n") for part in parts]
    assert list(chain(*found)) == paragraphs
    assert [abs(len(part) - size) <= 1 for part, size in zip(found, (360, 20, 20), strict=True)] == [True] * 3


def test_a_text_of_one_line_is_cut_between_words(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(2000)]
    (tmp_path / "own.txt").write_text(" ".join(words))
    parts = [read_text(str(tmp_path / "own.txt"), part).split() for part in PARTS]
    assert list(chain(*parts)) == words
    assert len(parts[1]) == pytest.approx(100, abs=8)


def test_too_few_documents_are_told(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.jsonl", [{"text": "a"}, {"text": "b"}, {"text": "a"}])
    with pytest.raises(
        DataError, match=r"2 distinct document\(s\) cannot be cut into train, validation, test; write split: all"
    ):
        read_text(path, "train")
    three = write_rows(tmp_path / "three.jsonl", [{"text": text} for text in "abc"])
    assert sorted(read_text(three, part) for part in PARTS) == ["a", "b", "c"]


def test_a_column_of_splits_is_followed(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": str(n), "split": "dev" if n % 4 == 0 else "train"} for n in range(12)]
    path = write_rows(tmp_path / "own.jsonl", rows)
    assert read_documents(path + "#text", "dev") == ["0", "4", "8"]
    assert len(read_documents(path + "#text", "train")) == 9
    with pytest.raises(DataError, match="no split 'test'; choose one of all, calibration, dev, train"):
        read_documents(path, "test")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test.txt", "test"),
        ("wiki.TEST.jsonl.gz", "test"),
        ("ptb_valid.csv", "validation"),
        ("notes-dev.md", "validation"),
        ("val.json", "validation"),
        ("latest.txt", None),
        ("test-notes.txt", None),
        ("train.jsonl", None),
        ("interval.txt", None),
    ],
)
def test_the_end_of_a_name_tells_the_split(name: str, split: str | None) -> None:
    assert split_in(Path(name)) == split


def test_a_file_named_by_a_split_is_whole_and_is_no_other(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "wiki.test.jsonl", [{"text": str(n)} for n in range(40)])
    assert len(read_documents(path, "test")) == 40
    for split in ("train", "validation"):
        with pytest.raises(DataError, match=f"all of it is for test, so it has no split {split}; write split: test"):
            read_documents(path, split)


def test_another_split_is_unknown(own: str) -> None:
    with pytest.raises(DataError, match="no split 'holdout'; choose one of all, calibration, train, validation, test"):
        read_text(own, "holdout")


# ---------------------------------------------------------------------------------------------------------- overlaps


def test_parts_of_a_file_are_disjoint_but_the_whole_overlaps_them(own: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(own).read_bytes())
    check_disjoint((own, "train"), [(own, "validation"), (str(copy), "test"), (f"{own}#text", "test")])
    for calibration, name, evaluation in (
        ("calibration", own, "test"),
        ("train", own, "all"),
        ("train", str(copy), "train"),
        ("test", f"{copy}#text", "test"),
    ):
        with pytest.raises(DataError, match="used for calibration and for evaluation"):
            check_disjoint((own, calibration), [(name, evaluation)])


def test_a_file_that_changes_is_another_text(own: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(own).read_bytes())
    with pytest.raises(DataError):
        check_disjoint((own, "train"), [(str(copy), "train")])
    write_rows(copy, [{"text": f"another {n}"} for n in range(9)])
    check_disjoint((own, "train"), [(str(copy), "train")])
