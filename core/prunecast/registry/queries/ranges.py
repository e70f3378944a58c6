"""Ranges of quantities, as questions name them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from prunecast.architecture.shape import ModelShape, Quantity
from prunecast.errors import RegistryError

_NUMBER = r"\d+(?:\.\d+)?(?:[eE]\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})?(?P<dots>\.\.)?(?P<high>{_NUMBER})?")


@dataclass(frozen=True)
class Range:
    """Limits of a quantity, both included: up to 1 a fraction of the dense model, above 1 an absolute number."""

    low: float | None = None
    high: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """``0.75..0.85``, ``0.75..``, ``..0.85``, or ``0.85``, which is an upper limit. Raises RegistryError."""
        match = _RANGE.fullmatch(text.strip())
        if match is None or not (match["low"] or match["high"]):
            raise RegistryError(f"{text!r} is no range: write LOW..HIGH, LOW.., or one upper limit, e.g. 0.75..0.85")
        low, high = (None if match[end] is None else float(match[end]) for end in ("low", "high"))
        return cls(low, high) if match["dots"] else cls(None, low)

    def absolute(self, dense: int) -> tuple[int | None, int | None]:
        """Both limits as whole numbers, for a quantity that is ``dense`` in the dense model."""
        low, high = (None if end is None else end * dense if end <= 1 else end for end in (self.low, self.high))
        return (None if low is None else math.ceil(low)), (None if high is None else math.floor(high))


Ranges = Mapping[Quantity, Range]


def absolute(ranges: Ranges, shape: ModelShape) -> dict[Quantity, tuple[int | None, int | None]]:
    """Limits of each quantity for architectures of the model."""
    return {
        quantity: limits.absolute(int(shape.count([shape.dense], quantity)[0])) for quantity, limits in ranges.items()
    }
