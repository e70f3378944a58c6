"""Data sets: texts of each name and split, overlap checks and errors."""

import gzip
import json
import os
from pathlib import Path

import pytest

from prunecast.data import DATA_SETS, check_disjoint, read_documents, read_rows, read_text
from prunecast.data.catalog import CATALOG
from prunecast.errors import DataError


@pytest.fixture
def shared_data() -> Path:
    """The folder with the real data sets."""
    folder = Path(os.environ.get("PRUNECAST_DATA", ""))
    if not (folder / "wikitext2" / "wiki.test.raw").is_file():
        pytest.skip("needs the data sets: set PRUNECAST_DATA to a folder with wikitext2/wiki.test.raw and the others")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, the only one that is searched."""
    monkeypatch.delenv("PRUNECAST_DATA", raising=False)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_wikitext_rows_keep_their_newline_and_blank_rows_are_empty(folder: Path) -> None:
    write(folder / "wikitext2/wiki.test.raw", " \n = A = \n \n Text , one . \n")
    assert read_text("wikitext2", "test", folder) == "\n\n = A = \n\n\n\n\n Text , one . \n"
    assert len(read_rows("wikitext2", "test", folder)) == 4


def test_wikitext_test_text_is_the_published_one(shared_data: Path) -> None:
    text = read_text("wikitext2", "test", shared_data)
    assert text.startswith("\n\n = Robert Boulter = \n\n\n\n\n Robert Boulter is an English film")
    # 1,288,556 characters in the file; 1,467 blank rows lose two each, 4,357 joins add two each.
    assert len(text) == 1_288_556 - 2 * 1_467 + 2 * 4_357


def test_lines_are_split_at_newlines_only(folder: Path) -> None:
    write(folder / "ptb/ptb.test.txt", " one\x85two \n three\u2028four \n")
    assert len(read_rows("ptb", "test", folder)) == 2


def test_ptb_lines_are_stripped_and_joined_by_one_space(folder: Path) -> None:
    write(folder / "ptb/ptb.test.txt", " no it was n't black monday \n but while \n")
    assert read_text("ptb", "test", folder) == "no it was n't black monday but while"


def test_calibration_documents_are_joined_by_blank_lines(folder: Path) -> None:
    write_jsonl(folder / "calibration/books.jsonl.gz", [{"title": "t", "text": "one"}, {"title": "u", "text": "two"}])
    assert read_documents("books", "calibration", folder) == ["one", "two"]
    assert read_text("books", "calibration", folder) == "one\n\ntwo"


def test_every_tenth_calibration_document_is_held_out(folder: Path) -> None:
    write_jsonl(folder / "calibration/books.jsonl.gz", [{"text": str(number)} for number in range(1, 26)])
    train, validation = (read_documents("books", split, folder) for split in ("train", "validation"))
    assert validation == ["10", "20"]
    assert sorted(train + validation, key=int) == read_documents("books", "calibration", folder)
    with pytest.raises(DataError, match="no split 'test'; choose one of calibration, train, validation"):
        read_documents("books", "test", folder)


def test_alpaca_documents_leave_out_an_empty_input(folder: Path) -> None:
    rows: list[dict[str, object]] = [{"instruction": "Add.", "input": "", "output": "2"}]
    write_jsonl(folder / "alpaca/alpaca_random9k.jsonl.gz", rows)
    assert read_documents("alpaca", "train", folder) == ["Add.\n2"]
    assert read_rows("alpaca", "train", folder) == rows


@pytest.mark.parametrize(
    ("name", "split", "count"),
    [
        ("mmlu", "test", 14_042),
        ("mmlu", "dev", 285),
        ("arc_easy", "test", 2_376),
        ("arc_challenge", "test", 1_172),
        ("piqa", "validation", 1_838),
        ("winogrande", "validation", 1_267),
        ("openbookqa", "test", 500),
        ("social_iqa", "validation", 1_954),
    ],
)
def test_questions_have_an_answer_among_their_choices(shared_data: Path, name: str, split: str, count: int) -> None:
    rows = read_rows(name, split, shared_data)
    assert len(rows) == count
    assert all(0 <= row["answer"] < len(row["choices"]) for row in rows)


@pytest.mark.parametrize(
    ("name", "published", "row"),
    [
        (
            "arc_easy",
            {"question": "Q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
            {"question": "Q", "choices": ["x", "y"], "answer": 1},
        ),
        (
            "openbookqa",
            {"question_stem": "Q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A"},
            {"question": "Q", "choices": ["x", "y"], "answer": 0},
        ),
        (
            "piqa",
            {"goal": "Q", "sol1": "x", "sol2": "y", "label": 1},
            {"question": "Q", "choices": ["x", "y"], "answer": 1},
        ),
        (
            "winogrande",
            {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "2"},
            {"question": "a _ b", "choices": ["x", "y"], "answer": 1},
        ),
        (
            "social_iqa",
            {"context": "C.", "question": "Q?", "answerA": "x", "answerB": "y", "answerC": "z", "label": "3"},
            {"question": "C. Q?", "choices": ["x", "y", "z"], "answer": 2},
        ),
    ],
)
def test_hub_rows_are_converted_to_file_rows(name: str, published: dict[str, object], row: dict[str, object]) -> None:
    assert CATALOG[name].to_row(published) == row


@pytest.mark.parametrize("name", DATA_SETS)
def test_unknown_split_error_lists_the_available_splits(name: str, folder: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'holdout'; choose one of .*(test|calibration|validation|train)"):
        read_rows(name, "holdout", folder)


def test_question_text_includes_the_right_answers(folder: Path) -> None:
    rows = [
        {"question": "q", "choices": ["a", "b"], "answer": 1},
        {"question": "r", "choices": ["c", "d"], "answer": 0},
    ]
    write_jsonl(folder / "mmlu/dev.jsonl.gz", rows)
    assert read_documents("mmlu", "dev", folder) == ["Question: q\nAnswer: b\n\nQuestion: r\nAnswer: c"]


def test_winogrande_text_has_the_right_word_in_the_blank(folder: Path) -> None:
    rows = [{"question": "the _ ran", "choices": ["cat", "dog"], "answer": 1}]
    write_jsonl(folder / "zeroshot/winogrande_xl.validation.jsonl.gz", rows)
    assert read_text("winogrande", "validation", folder) == "the dog ran"


def test_missing_file_is_named_when_offline(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_text("wikitext2", "test", folder)
    message = str(caught.value)
    assert str(folder / "wikitext2/wiki.test.raw") in message
    assert "PRUNECAST_DATA" in message
    assert "\n" not in message


def test_error_without_a_data_folder_names_the_expected_file(folder: Path) -> None:
    with pytest.raises(DataError, match=r"alpaca/alpaca_filtered_extra.jsonl.gz because no data folder is set"):
        read_rows("alpaca", "extra")


def test_environment_variable_sets_the_data_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "ptb/ptb.valid.txt", " here \n")
    monkeypatch.setenv("PRUNECAST_DATA", str(folder))
    assert read_text("ptb", "validation") == "here"


def test_argument_overrides_the_environment_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "env/ptb/ptb.test.txt", " environment \n")
    write(folder / "arg/ptb/ptb.test.txt", " argument \n")
    monkeypatch.setenv("PRUNECAST_DATA", str(folder / "env"))
    assert read_text("ptb", "test", folder / "arg") == "argument"


def test_data_folder_that_does_not_exist_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_text("ptb", "test", folder / "nowhere")


def test_misspelt_name_suggests_the_right_one() -> None:
    with pytest.raises(DataError, match="did you mean wikitext2"):
        read_text("wikitxt2", "test")


def test_local_text_is_one_document(folder: Path) -> None:
    path = write(folder / "notes.md", "a\n\nb\n")
    assert read_documents(str(path), "all") == ["a\n\nb\n"]


def test_local_rows_use_the_named_column(folder: Path) -> None:
    path = write_jsonl(folder / "rows.jsonl.gz", [{"text": "wrong", "summary": "right"}])
    assert read_documents(f"{path}#summary", "all") == ["right"]
    assert read_documents(str(path), "all") == ["wrong"]


def test_ambiguous_column_error_asks_for_the_column(folder: Path) -> None:
    path = write_jsonl(folder / "rows.jsonl.gz", [{"left": "a", "right": "b"}])
    with pytest.raises(DataError, match=r"name one of left, right as .*rows.jsonl.gz#COLUMN"):
        read_documents(str(path), "all")


def test_damaged_line_is_named(folder: Path) -> None:
    path = write(folder / "rows.jsonl", '{"text": "fine"}\n{"text": \n')
    with pytest.raises(DataError, match=r"rows.jsonl:2: not valid JSON"):
        read_documents(str(path), "all")


def test_truncated_gzip_is_a_data_error(folder: Path) -> None:
    path = write_jsonl(folder / "rows.jsonl.gz", [{"text": str(number)} for number in range(1000)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"rows.jsonl.gz: not a readable .gz file"):
        read_documents(str(path), "all")


def test_text_that_is_not_utf8_is_a_data_error(folder: Path) -> None:
    path = folder / "latin.txt"
    path.write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_text(str(path), "all")


def test_empty_text_is_a_data_error(folder: Path) -> None:
    with pytest.raises(DataError, match="no text in it"):
        read_text(str(write(folder / "empty.txt", " \n")), "all")


def test_unreachable_hub_set_is_a_one_line_data_error() -> None:
    with pytest.raises(DataError, match=r"Hub data set nobody/nothing, split train") as caught:
        read_text("hub:nobody/nothing", "train")
    assert "\n" not in str(caught.value)


def test_hub_name_without_a_set_is_refused() -> None:
    with pytest.raises(DataError, match="not a valid name of a Hub data set"):
        read_text("hub:a/b/c", "train")


def test_python_docs_splits_are_large_enough() -> None:
    assert all(len(read_text("python-docs", split)) > 90_000 for split in ("calibration", "validation", "test"))


def test_python_docs_splits_share_no_topic_and_no_paragraph() -> None:
    splits = [read_rows("python-docs", split) for split in ("calibration", "validation", "test")]
    topics = [{row["topic"] for row in rows} for rows in splits]
    paragraphs = [{" ".join(part.split()) for row in rows for part in row["text"].split("\n\n")} for rows in splits]
    for sets in (topics, paragraphs):
        assert len(set.union(*sets)) == sum(map(len, sets))


def test_python_docs_topics_are_sorted() -> None:
    topics = [row["topic"] for row in read_rows("python-docs", "test")]
    assert topics == sorted(topics)


def test_calibrating_on_evaluated_text_is_refused() -> None:
    with pytest.raises(DataError, match="used for calibration and for evaluation"):
        check_disjoint(("wikitext2", "validation"), [("ptb", "test"), ("wikitext2", "validation")])


def test_different_splits_are_disjoint() -> None:
    check_disjoint(("python-docs", "calibration"), [("python-docs", "validation"), ("wikitext2", "test")])


def test_overlap_check_distinguishes_parts_of_the_calibration_text() -> None:
    check_disjoint(("books", "train"), [("books", "validation"), ("wikipedia", "train")])
    for calibration, evaluation in (("calibration", "validation"), ("train", "calibration"), ("train", "train")):
        with pytest.raises(DataError, match=f"books, split {evaluation}"):
            check_disjoint(("books", calibration), [("books", evaluation)])


def test_overlap_is_found_when_one_text_has_two_names(folder: Path) -> None:
    path = write(folder / "a.txt", "text")
    with pytest.raises(DataError, match=r"a\.txt"):
        check_disjoint((str(path), "calibration"), [(f"{folder}/../{folder.name}/a.txt", "test")])
    with pytest.raises(DataError, match="wikitext2"):
        check_disjoint(("Salesforce/wikitext:wikitext-2-raw-v1", "test"), [("wikitext2", "test")])
