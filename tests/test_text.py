"""Amounts differ in print if they differ; counts agree with their nouns."""

import pytest

from prunecast.text import amounts, counted, duration


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((151_552, 242_560), ("148.0 KiB", "236.9 KiB")),
        ((0, 176), ("0 B", "176 B")),
        ((0, 300 * 2**20), ("0.0 MiB", "300.0 MiB")),
        ((6 * 2**30, 6 * 2**30 + 2**24), ("6.00 GiB", "6.02 GiB")),
        ((2**40, 2**40 + 1), ("1,099,511,627,776 B", "1,099,511,627,777 B")),
        ((5 * 2**30, 5 * 2**30), ("5.0 GiB", "5.0 GiB")),
        ((2**50,), ("1,024.0 TiB",)),
    ],
)
def test_two_amounts_that_differ_look_different(numbers: tuple[int, ...], shown: tuple[str, ...]) -> None:
    assert amounts(*numbers) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "less than 1 s"), (2.4, "2 s"), (90.0, "1.5 minutes"), (42_240.0, "11.7 hours"), (3.6e7, "10,000.0 hours")],
)
def test_a_duration_is_never_zero_minutes(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 pairs"), (1, "1 pair"), (2, "2 pairs"), (21, "21 pairs"), (1200, "1,200 pairs")]
)
def test_a_count_agrees_with_its_noun(count: int, shown: str) -> None:
    assert counted(count, "pair") == shown
