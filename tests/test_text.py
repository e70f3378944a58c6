"""Counts agree with their nouns."""

import pytest

from prunecast.text import counted


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 pairs"), (1, "1 pair"), (2, "2 pairs"), (21, "21 pairs"), (1200, "1,200 pairs")]
)
def test_a_count_agrees_with_its_noun(count: int, shown: str) -> None:
    assert counted(count, "pair") == shown
