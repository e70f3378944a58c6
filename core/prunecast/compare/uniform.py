"""Uniform architectures: the same rate in every layer, at the parameter count of the architecture compared with."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Layer, Sizes, sizes_of
from prunecast.architecture.choices import Choice
from prunecast.architecture.shape import ModelShape

TOLERANCE = 0.002
"""A baseline has the parameter count it is compared at to within 0.2 %."""


def uniform(shape: ModelShape, choices: Sequence[Choice], parameters: int, *, attention: bool) -> Architecture:
    """Uniform architecture over the layers of the choices: at most ``parameters`` parameters, as close as possible.

    Layers that differ in size keep the same share, rounded to whole units and at least one unless all are removed.
    With ``attention``, query heads are pruned at the rate of the MLP, in whole heads; of equally near counts the one
    with fewer KV groups, as in LLM-Pruner (arXiv 2305.11627, section 3.3). Without, only MLPs are pruned.

    A KV group is ranked by the importance of its own query heads. LLM-Pruner's code for grouped queries adds up the
    importance of other heads (k, k + 3, k + 6 instead of 3k to 3k + 2 for three groups of three), with worse results.
    """
    layers = sorted({layer for choice in choices for layer in choice.layers})
    largest = Layer(*np.array(shape.dense.layers)[layers].max(axis=0).tolist())
    candidates = _attentions(largest) if attention else [largest]
    filled = [_fill(shape, layers, largest, kept, parameters) for kept in candidates]
    return min(filled, key=lambda architecture: _distance(shape, layers, architecture, parameters))


def _attentions(largest: Layer) -> list[Layer]:
    groups, heads, width = largest
    whole_groups = [Layer(kept, heads, width) for kept in range(groups + 1)]
    return whole_groups if heads == 1 else whole_groups + [Layer(groups, kept, width) for kept in range(1, heads)]


def _fill(shape: ModelShape, layers: list[int], largest: Layer, attention: Layer, parameters: int) -> Architecture:
    """The widest uniform MLP that fits beside the given attention; no MLP at all if none fits."""
    widths = np.arange(largest.mlp_width + 1)
    sizes = np.repeat(sizes_of([shape.dense]), len(widths), axis=0)
    kept = np.stack(
        [np.full_like(widths, attention.kv_groups), np.full_like(widths, attention.heads_per_group), widths]
    )
    sizes[:, layers] = _at_rate(sizes[:, layers], kept.T[:, None], np.array(largest))
    fits = np.flatnonzero(shape.count_sizes(sizes, "parameters") <= parameters)
    width = int(fits[-1]) if len(fits) else 0
    return Architecture.from_sizes(sizes[width : width + 1])[0]


def _at_rate(dense: Sizes, kept: Sizes, largest: NDArray[np.int64]) -> Sizes:
    """Sizes of layers that keep of ``dense`` what ``kept`` is of ``largest``; at least 1, unless nothing is kept."""
    whole = np.maximum(largest, 1)
    share = (2 * dense * kept + whole) // (2 * whole)  # rounded
    return np.asarray(np.where(kept > 0, np.maximum(share, np.minimum(dense, 1)), 0), dtype=np.int64)


def _distance(
    shape: ModelShape, layers: list[int], architecture: Architecture, parameters: int
) -> tuple[bool, float, float]:
    """Distance from a uniform architecture of ``parameters``: exceeds them, relative error, difference of the rates."""
    count = int(shape.count([architecture])[0])
    off = max(abs(parameters - count) / parameters - TOLERANCE, 0.0)
    kept, dense = (sizes_of([each])[0, layers] for each in (architecture, shape.dense))
    heads, width = ((part(kept).sum() / max(part(dense).sum(), 1)) for part in (_query_heads, _mlp_width))
    return count > parameters, off, abs(float(width - heads))


def _query_heads(sizes: Sizes) -> NDArray[np.int64]:
    return np.asarray(sizes[..., 0] * sizes[..., 1], dtype=np.int64)


def _mlp_width(sizes: Sizes) -> NDArray[np.int64]:
    return np.asarray(sizes[..., 2], dtype=np.int64)


def distinct_totals(counts: Iterable[int]) -> list[int]:
    """Parameter counts to compare at, in order, without those within the tolerance of an earlier one."""
    totals: list[int] = []
    for count in counts:
        if all(abs(count - total) > TOLERANCE * total for total in totals):
            totals.append(count)
    return totals
