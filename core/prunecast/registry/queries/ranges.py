"""Ranges of quantities: the budgets of queries."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from prunecast.architecture.budget import absolute, check_is_no_percentage
from prunecast.architecture.shape import QUANTITIES, Counted, ModelShape
from prunecast.errors import RegistryError

_NUMBER = r"\d+(?:\.\d+)?(?:[eE]\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})?(?P<dots>\.\.)?(?P<high>{_NUMBER})?")


@dataclass(frozen=True)
class Range:
    """Limits of a quantity, both inclusive: up to 1 a fraction of the dense model, above 1 an absolute number.

    Attributes:
        low, high: the limits; None if there is none on that side.
    """

    low: float | None = None
    high: float | None = None

    @classmethod
    def parse(cls, text: str, quantity: Counted = "parameters") -> Self:
        """Range from ``0.75..0.85``, ``0.75..``, ``..0.85``, or the upper limit ``0.85``.

        Raises:
            RegistryError: the text is no such range, or a limit is a percentage of the quantity.
        """
        match = _RANGE.fullmatch(text.strip())
        if match is None or not (match["low"] or match["high"]):
            raise RegistryError(f"{text!r} is no range: write LOW..HIGH, LOW.., or one upper limit, e.g. 0.75..0.85")
        low, high = (None if match[end] is None else float(match[end]) for end in ("low", "high"))
        try:
            for limit in (low, high):
                check_is_no_percentage(limit or 0, quantity)
        except ValueError as error:
            raise RegistryError(str(error)) from error
        return cls(low, high) if match["dots"] else cls(None, low)

    def absolute(self, dense: int) -> tuple[int | None, int | None]:
        """Both limits in whole units, rounded inwards; ``dense`` is the quantity of the dense model."""
        low = None if self.low is None else math.ceil(absolute(self.low, dense))
        high = None if self.high is None else math.floor(absolute(self.high, dense))
        return low, high


Ranges = Mapping[Counted, Range]


def parse_ranges(texts: Mapping[str, str]) -> Ranges:
    """Ranges from their texts by quantity.

    Raises:
        RegistryError: no such quantity, or a text that is no range.
    """
    for name in texts:
        if name not in QUANTITIES:
            raise RegistryError(f"{name!r} is not a quantity: use one of {', '.join(QUANTITIES)}")
    return {quantity: Range.parse(texts[quantity], quantity) for quantity in QUANTITIES if quantity in texts}


def absolute_limits(ranges: Ranges, shape: ModelShape) -> dict[Counted, tuple[int | None, int | None]]:
    """Lower and upper limit of each quantity, in whole units, for architectures of the model."""
    return {
        quantity: limits.absolute(int(shape.count([shape.dense], quantity)[0])) for quantity, limits in ranges.items()
    }
