"""The baselines: the same rate in every layer, at the same parameter count as the architecture compared with."""

import numpy as np

from prunecast.architecture import Architecture, Layer
from prunecast.choices import Choice
from prunecast.shape import ModelShape

TOLERANCE = 0.002
"""A baseline has the parameter count it is compared at to within 0.2 %."""


def uniform(shape: ModelShape, choices: tuple[Choice, ...], parameters: int, *, attention: bool) -> Architecture:
    """Equal cut of all layers that the choices cover, with at most ``parameters`` parameters, as close as widths allow.

    With ``attention``, query heads are cut at the rate of the MLP, as far as whole heads go; of equally near counts the
    one with fewer KV groups, as LLM-Pruner cuts (arXiv 2305.11627, section 3.3). Without, only MLPs are cut.
    """
    layers = sorted({layer for choice in choices for layer in choice.layers})
    candidates = [_dense_attention(shape)]
    if attention:
        candidates = _attentions(shape)
    tried = [_fill(shape, layers, kept, parameters) for kept in candidates]
    return min(tried, key=lambda pair: pair[1])[0]


def _dense_attention(shape: ModelShape) -> Layer:
    return shape.dense.layers[0]


def _attentions(shape: ModelShape) -> list[Layer]:
    groups, heads, width = shape.dense.layers[0]
    whole_groups = [Layer(kept, heads, width) for kept in range(groups + 1)]
    return whole_groups if heads == 1 else whole_groups + [Layer(groups, kept, width) for kept in range(1, heads)]


def _fill(shape: ModelShape, layers: list[int], attention: Layer, parameters: int) -> tuple[Architecture, float]:
    """The widest uniform MLP that fits beside the given attention, and how far the two kept shares are apart."""
    dense = shape.dense.layers[0]
    widths = np.arange(dense.mlp_width + 1)
    sizes = np.repeat(np.array([shape.dense.layers], dtype=np.int64), len(widths), axis=0)
    sizes[:, layers, :2] = attention[:2]
    sizes[:, layers, 2] = widths[:, None]
    fits = np.flatnonzero(shape.count_sizes(sizes, "parameters") <= parameters)
    if len(fits) == 0:
        return Architecture.from_sizes(sizes[:1])[0], np.inf
    width = int(fits[-1])
    gap = abs(width / dense.mlp_width - attention.query_heads / dense.query_heads)
    return Architecture.from_sizes(sizes[width : width + 1])[0], gap
