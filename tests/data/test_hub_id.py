"""Ids of data sets on the Hub, for cards."""

from pathlib import Path

import pytest

from prunecast.data import hub_id
from prunecast.errors import DataError


def test_data_sets_of_the_catalog_and_of_the_hub_have_an_id_there() -> None:
    assert hub_id("wikitext2", "test") == ("Salesforce/wikitext", "wikitext-2-raw-v1")
    assert hub_id("ptb", "validation") == ("ptb-text-only/ptb_text_only", None)
    assert hub_id("hub:acme/Texts:small#body", "train") == ("acme/Texts", "small")


def test_files_and_splits_of_files_have_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    assert hub_id(str(tmp_path / "notes.txt"), "test") is None
    assert hub_id("python-docs", "train") is None
    assert hub_id("alpaca", "extra") is None


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(DataError, match="unknown"):
        hub_id("wikitext", "test")
