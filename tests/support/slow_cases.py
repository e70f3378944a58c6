"""Cases of which a daily run takes some."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def slow_but(daily: Container[str], cases: Iterable[str]) -> list[Any]:
    """Parameters of a test, one for each case; those that are not in ``daily`` are marked ``slow``."""
    return [pytest.param(case, marks=() if case in daily else pytest.mark.slow) for case in cases]
