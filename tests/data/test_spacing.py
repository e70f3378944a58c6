"""Conversion of plain articles to the spacing of WikiText."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecast.data import check_disjoint, read_text
from prunecast.data.spacing import spaced_like_wikitext
from prunecast.errors import DataError


@pytest.mark.parametrize(
    ("plain", "spaced"),
    [
        ("He had a guest-starring role in 2000.", "He had a guest @-@ starring role in 2000 ."),
        ("It cost $1,450.50 (or 3.5%).", "It cost $ 1 @,@ 450 @.@ 50 ( or 3 @.@ 5 % ) ."),
        ("She said: \"they've gone\"; it isn't so!", "She said : \" they 've gone \" ; it isn 't so !"),
        ("the players' 2011\u201312 season, at 60 km/h", "the players ' 2011 \u2013 12 season , at 60 km / h"),
        ("at  two   spaces", "at two spaces"),
    ],
)
def test_punctuation_is_spaced_as_in_wikitext(plain: str, spaced: str) -> None:
    assert spaced_like_wikitext(plain) == f" {spaced} \n\n\n"


def test_titles_and_paragraphs_are_rows_joined_by_blank_lines() -> None:
    article = "Robert Boulter\n\nHe is an actor.\nHe acts."
    assert spaced_like_wikitext(article) == (" = Robert Boulter = \n\n\n He is an actor . \n\n\n He acts . \n\n\n")


@given(st.text("ab1,.-'\"()@ ", max_size=40))
def test_only_spaces_and_at_signs_are_added(line: str) -> None:
    def bare(text: str) -> str:
        return "".join(text.split()).replace("@", "")

    assert bare(spaced_like_wikitext(line)) == bare(line)


def test_overlap_check_treats_spaced_and_plain_articles_as_the_same_text() -> None:
    check_disjoint(("wikipedia", "train"), [("wikipedia-spaced", "validation")])
    with pytest.raises(DataError, match="wikipedia-spaced, split validation"):
        check_disjoint(("wikipedia", "calibration"), [("wikipedia-spaced", "validation")])


def test_data_set_name_selects_the_spaced_articles(tmp_path: Path) -> None:
    file = tmp_path / "calibration" / "wikipedia_sample.jsonl.gz"
    file.parent.mkdir()
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": f"Number {number}\n\nA so-called text."}) + "\n" for number in range(10))
    assert "Number 9\n\nA so-called" in read_text("wikipedia", "validation", tmp_path)
    assert " = Number 9 = \n\n\n A so @-@ called text . \n" in read_text("wikipedia-spaced", "validation", tmp_path)
