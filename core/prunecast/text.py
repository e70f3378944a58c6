"""Formatting of values for terminals and reports, and escaping of text that others wrote."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that move a cursor, reorder or hide text, or break lines."""

_JOINERS = "\u200c\u200d"
"""Characters of category Cf that Persian, Indic scripts and emoji are written with."""

_MARKUP = re.compile(r"[\\`*_\[\]|~#]")

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def is_hidden(character: str) -> bool:
    """True for a character that a terminal or a page does not show as itself; a line break is one."""
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def visible(written: str, keep: str = "") -> str:
    """Text with every hidden character as a visible escape, e.g. ``\\x1b``, so that it cannot control a terminal.

    Args:
        written: text that may come from elsewhere.
        keep: hidden characters that stay, e.g. line breaks in a text of several lines.
    """
    if written.isprintable():
        return written
    return "".join(
        character.encode("unicode_escape").decode() if is_hidden(character) and character not in keep else character
        for character in written
    )


def markdown(written: str) -> str:
    """Text as one line of Markdown that displays it as it is: markup, HTML and the ends of table cells are escaped."""
    escaped = _MARKUP.sub(r"\\\g<0>", visible(written))
    return "".join(_ENTITIES.get(character, character) for character in escaped)


def text(value: Any) -> str:
    """Any value as text; None is empty.

    Integers have thousands separators; floats of magnitude 1 or more have them too and two decimals, smaller ones four
    significant digits.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"


def number(value: float | None) -> str:
    """A number as text; None is ``-``.

    Integers have thousands separators; floats of magnitude 10 or more have them too and two decimals, smaller ones four
    significant digits.
    """
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4g}"


def size(count: float) -> str:
    """A number of bytes with its unit, e.g. ``312 kB``; from 10 units of the next size on in that unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 10_000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}"


def percent(fraction: float) -> str:
    """A fraction in percent with one decimal, e.g. ``60.0 %``."""
    return f"{100 * fraction:.1f} %"


def better(gain: float) -> str:
    """A relative gain in words, e.g. ``4.3 % worse`` for -0.043."""
    return f"{abs(100 * gain):.1f} % {'better' if gain >= 0 else 'worse'}"


def first_of(names: Sequence[str]) -> str:
    """The first of some names, and the number of the others, e.g. ``a`` or ``a and 2 more``."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def listed(parts: Sequence[str]) -> str:
    """Parts of a sentence, at least one, e.g. ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def counted(count: int, noun: str) -> str:
    """A count with its noun, whose plural ends in s, e.g. ``1 pair`` or ``1,200 pairs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def amounts(*numbers: int) -> tuple[str, ...]:
    """Numbers of bytes in one unit that shows which of them differ, e.g. ``148.0 KiB`` and ``236.9 KiB``.

    The unit is that of the largest, or bytes where numbers differ by less than three decimals show.
    """
    unit, size = next((u, s) for u, s in reversed(_SIZES.items()) if s == 1 or max(numbers) >= s)
    for decimals in (1, 2, 3) if size > 1 else ():
        shown = tuple(f"{number / size:,.{decimals}f} {unit}" for number in numbers)
        if len(set(shown)) == len(set(numbers)):
            return shown
    return tuple(f"{number:,} B" for number in numbers)


def duration(seconds: float) -> str:
    """A time in words, e.g. ``12 s``, ``3.5 minutes`` or ``27.0 hours``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
    return f"{seconds / 60:,.1f} minutes" if seconds < 6000 else f"{seconds / 3600:,.1f} hours"


def with_article(noun: str) -> str:
    """A noun with its indefinite article, e.g. ``an exporter``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
