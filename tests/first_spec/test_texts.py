"""Texts for a first spec: those in the data folder, those that are named, and those of Python."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from first_looks import smollm2

from prunecast.errors import DataError
from prunecast.first_spec.look import Look
from prunecast.first_spec.texts import Texts, texts_at_hand

LINES = [f"Sentence {number} of a text about nothing in particular." for number in range(2000)]


@pytest.fixture
def look() -> Look:
    """A model with a token for each byte, and windows of 512."""
    return smollm2().look


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, empty."""
    monkeypatch.setenv("PRUNECAST_DATA", str(tmp_path))
    return tmp_path


def write_rows(path: Path, documents: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"text": document}) + "\n" for document in documents)


def write_lines(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(LINES))


def names(texts: Texts) -> list[set[str]]:
    """Names and splits by purpose."""
    return [{f"{t.dataset}.{t.split}" for t in part} for part in (texts.calibration, texts.search, texts.report)]


def test_an_empty_data_folder_leaves_the_text_of_python(folder: Path, look: Look) -> None:
    texts = texts_at_hand(look)
    assert names(texts) == [{"python-docs.calibration"}, {"python-docs.validation"}, {"python-docs.test"}]
    assert texts.bundled


def test_data_sets_in_the_data_folder_are_chosen(folder: Path, look: Look) -> None:
    write_lines(folder / "wikitext2" / "wiki.valid.tokens")
    write_lines(folder / "wikitext2" / "wiki.test.raw")
    write_lines(folder / "ptb" / "ptb.valid.txt")
    write_rows(folder / "calibration" / "wikipedia_sample.jsonl.gz", [" ".join(LINES[n : n + 20]) for n in range(100)])
    texts = texts_at_hand(look)
    assert not texts.bundled
    # PTB has no test text here, so it is not searched by either.
    assert names(texts) == [
        {"wikipedia-spaced.train"},
        {"wikitext2.validation", "wikipedia-spaced.validation"},
        {"wikitext2.test"},
    ]


def test_documents_shorter_than_a_window_are_of_no_use_for_calibration(folder: Path, look: Look) -> None:
    write_rows(folder / "calibration" / "c4_sample.jsonl.gz", LINES)
    assert names(texts_at_hand(look))[0] == {"python-docs.calibration"}
    # Of 90 documents of 512 characters or more, each has one window, and a few have no more.
    write_rows(folder / "calibration" / "c4_sample.jsonl.gz", ["x" * 600] * 100)
    [chosen] = texts_at_hand(look).calibration
    assert (chosen.dataset, chosen.windows) == ("c4", 90 * 600 // 512)


def test_named_texts_replace_those_at_hand(folder: Path, look: Look) -> None:
    write_lines(folder / "mine.txt")
    (folder / "my-test.txt").write_text("\n".join(reversed(LINES)))
    mine, test = str(folder / "mine.txt"), str(folder / "my-test.txt")
    texts = texts_at_hand(look, [mine], [mine, test])
    assert names(texts) == [{f"{mine}.train"}, {f"{mine}.validation"}, {f"{mine}.test", f"{test}.test"}]
    assert names(texts_at_hand(look, [mine]))[0] == {f"{mine}.train"}
    assert names(texts_at_hand(look, [], [mine]))[0] == {"python-docs.calibration"}


def test_a_token_without_an_embedding_rules_a_text_out(folder: Path, look: Look) -> None:
    small = replace(look, shape=replace(look.shape, vocabulary=80))
    with pytest.raises(DataError, match="no text at hand that the tokenizer of smollm2-135m knows"):
        texts_at_hand(small)
