"""Amounts differ in print if they differ; counts agree with their nouns; text that others wrote is escaped."""

from html import unescape

import pytest

from prunecast.text import amounts, counted, duration, markdown, visible, with_article


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


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b2J\x7f\x00", "\\x9b2J\\x7f\\x00"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("a\u2028b\ufeff\U000e0041", "a\\u2028b\\ufeff\\U000e0041"),
        ("half \ud83d", "half \\ud83d"),
        (
            "größe 模型 \U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e",
            "größe 模型 \U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e",
        ),
    ],
)
def test_hidden_characters_become_escapes_and_scripts_stay(written: str, shown: str) -> None:
    assert visible(written) == shown
    assert visible(shown) == shown


def test_kept_characters_stay() -> None:
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_markdown_shows_the_text_and_nothing_else() -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    text = "a|b <img src=x onerror=alert(1)> [x](javascript:alert(1)) ![y](z) `c` **d** _e_ # f & ~~g~~ \\| &lt;"
    page = parser.render(f"| x |\n| --- |\n| {markdown(text)} |\n")
    (cell,) = page.split("<td>")[1:]
    shown = cell.split("</td>")[0]
    assert "<" not in shown
    assert unescape(shown) == text


def test_articles() -> None:
    assert [with_article(noun) for noun in ("exporter", "family")] == ["an exporter", "a family"]
