"""Numbers as people read them, on a terminal and on a page."""

from typing import Any


def text(value: Any) -> str:
    """A value as people read it: thousands separated, floats to four significant digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"


def percent(fraction: float) -> str:
    """A fraction of the dense model, in percent with one decimal."""
    return f"{100 * fraction:.1f} %"


def number(value: float | None) -> str:
    """A number as people read it: whole ones with thousands separated, others to four significant digits."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4g}"


def better(gain: float) -> str:
    """A gain in words, e.g. ``4.3 % worse``."""
    return f"{abs(100 * gain):.1f} % {'better' if gain >= 0 else 'worse'}"
