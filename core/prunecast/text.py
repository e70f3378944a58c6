"""Formatting of values for terminals and reports."""

from typing import Any


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
