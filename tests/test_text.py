"""Escaping of text that others wrote."""

from html import unescape

import pytest

from prunecast.text import markdown, visible


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
