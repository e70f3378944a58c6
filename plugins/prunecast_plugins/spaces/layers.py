"""Ranges of layers in the options of search spaces."""

import re
from typing import Annotated

from pydantic import AfterValidator

from prunecast.plugins import ModelError, ModelShape

_RANGE = re.compile(r"(-?\d+)?:(-?\d+)?")


def _checked(text: str) -> str:
    if _RANGE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a range of layers: write 'start:stop' in quotes, e.g. '3:28' or '3:-2'")
    return text


LayerRange = Annotated[str, AfterValidator(_checked)]
"""Layers as a range of Python, ``start:stop``."""


def layers_in(layers: str, shape: ModelShape, option: str = "space.layers") -> tuple[int, ...]:
    """Indices of the layers of a range, ascending.

    Args:
        layers: the range.
        shape: the dense model.
        option: where a spec has the range.

    Raises:
        ModelError: the range exceeds the layers of the model, or selects none of them.
    """
    depth = len(shape.dense.layers)
    start, stop = (int(end) if end else None for end in layers.split(":"))
    if any(end is not None and abs(end) > depth for end in (start, stop)):
        raise ModelError(f"{option} {layers!r} exceeds the model's {depth} layers")
    selected = tuple(range(depth)[start:stop])
    if not selected:
        raise ModelError(f"{option} {layers!r} selects none of the model's {depth} layers")
    return selected
