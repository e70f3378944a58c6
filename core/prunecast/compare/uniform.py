"""Uniform architectures: the same rate in every layer, at the parameter count of the architecture compared with."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.choices import Choice
from prunecast.architecture.shape import ModelShape

TOLERANCE = 0.002
"""A baseline has the parameter count it is compared at to within 0.2 %."""


@dataclass(frozen=True)
class UniformBaseline:
    """A baseline that prunes all layers at one rate.

    Attributes:
        name: its name in a spec.
        attention: True if attention is pruned too, False for the MLP alone.
        compensated: True if the pruner's compensation is applied.
    """

    name: str
    attention: bool
    compensated: bool

    @classmethod
    def named(cls, name: str) -> "UniformBaseline | None":
        """The uniform baseline called ``name``; None if that is another kind of baseline."""
        return next((each for each in UNIFORM_BASELINES if each.name == name), None)


UNIFORM_BASELINES = tuple(
    UniformBaseline(f"uniform{mlp}{without}", attention=not mlp, compensated=not without)
    for mlp in ("", "-mlp")
    for without in ("", "-uncompensated")
)


def uniform(shape: ModelShape, choices: tuple[Choice, ...], parameters: int, *, attention: bool) -> Architecture:
    """Uniform architecture over the layers of the choices: at most ``parameters`` parameters, as close as possible.

    With ``attention``, query heads are pruned at the rate of the MLP, in whole heads; of equally near counts the one
    with fewer KV groups, as in LLM-Pruner (arXiv 2305.11627, section 3.3). Without, only MLPs are pruned.

    A KV group is ranked by the importance of its own query heads. LLM-Pruner's code for grouped queries adds up the
    importance of other heads (k, k + 3, k + 6 instead of 3k to 3k + 2 for three groups of three), with worse results.
    """
    layers = sorted({layer for choice in choices for layer in choice.layers})
    candidates = _attentions(shape) if attention else [shape.dense.layers[0]]
    filled = [_fill(shape, layers, kept, parameters) for kept in candidates]
    return min(filled, key=lambda architecture: _distance(shape, layers[0], architecture, parameters))


def _attentions(shape: ModelShape) -> list[Layer]:
    groups, heads, width = shape.dense.layers[0]
    whole_groups = [Layer(kept, heads, width) for kept in range(groups + 1)]
    return whole_groups if heads == 1 else whole_groups + [Layer(groups, kept, width) for kept in range(1, heads)]


def _fill(shape: ModelShape, layers: list[int], attention: Layer, parameters: int) -> Architecture:
    """The widest uniform MLP that fits beside the given attention; no MLP at all if none fits."""
    widths = np.arange(shape.dense.layers[0].mlp_width + 1)
    sizes = np.repeat(np.array([shape.dense.layers], dtype=np.int64), len(widths), axis=0)
    sizes[:, layers, :2] = attention[:2]
    sizes[:, layers, 2] = widths[:, None]
    fits = np.flatnonzero(shape.count_sizes(sizes, "parameters") <= parameters)
    width = int(fits[-1]) if len(fits) else 0
    return Architecture.from_sizes(sizes[width : width + 1])[0]


def _distance(shape: ModelShape, layer: int, architecture: Architecture, parameters: int) -> tuple[bool, float, float]:
    """Distance from a uniform architecture of ``parameters``: exceeds them, relative error, difference of the rates."""
    count, dense, kept = int(shape.count([architecture])[0]), shape.dense.layers[layer], architecture.layers[layer]
    off = max(abs(parameters - count) / parameters - TOLERANCE, 0.0)
    apart = abs(kept.mlp_width / dense.mlp_width - kept.query_heads / dense.query_heads)
    return count > parameters, off, apart


def distinct_totals(counts: Iterable[int]) -> list[int]:
    """Parameter counts to compare at, in order, without those within the tolerance of an earlier one."""
    totals: list[int] = []
    for count in counts:
        if all(abs(count - total) > TOLERANCE * total for total in totals):
            totals.append(count)
    return totals
