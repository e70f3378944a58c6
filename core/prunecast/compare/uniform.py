"""The baselines: the same rate in every layer, at the same parameter count as the architecture compared with."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.choices import Choice
from prunecast.architecture.shape import ModelShape

TOLERANCE = 0.002
"""A baseline has the parameter count it is compared at to within 0.2 %."""


@dataclass(frozen=True)
class UniformCut:
    """A baseline that cuts all layers alike.

    Attributes:
        name: what a spec calls it.
        attention: whether attention is cut too, or the MLP alone.
        compensated: whether the pruner's compensation is at work.
    """

    name: str
    attention: bool
    compensated: bool

    @classmethod
    def named(cls, name: str) -> "UniformCut | None":
        """The cut called ``name``; None if that is another kind of baseline."""
        return next((cut for cut in UNIFORM_CUTS if cut.name == name), None)


UNIFORM_CUTS = tuple(
    UniformCut(f"uniform{mlp}{without}", attention=not mlp, compensated=not without)
    for mlp in ("", "-mlp")
    for without in ("", "-uncompensated")
)


def uniform(shape: ModelShape, choices: tuple[Choice, ...], parameters: int, *, attention: bool) -> Architecture:
    """Equal cut of all layers that the choices cover, with at most ``parameters`` parameters, as close as widths allow.

    With ``attention``, query heads are cut at the rate of the MLP, as far as whole heads go; of equally near counts the
    one with fewer KV groups, as LLM-Pruner cuts (arXiv 2305.11627, section 3.3). Without, only MLPs are cut.

    Which groups go is decided by the importance of their own query heads. LLM-Pruner's code for grouped queries adds up
    that of other heads (k, k + 3, k + 6 instead of 3k to 3k + 2 for three groups of three), and does worse for it.
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
    """How far it is from a uniform cut to ``parameters``: above them, off by how much, and the rates apart."""
    count, dense, kept = int(shape.count([architecture])[0]), shape.dense.layers[layer], architecture.layers[layer]
    off = max(abs(parameters - count) / parameters - TOLERANCE, 0.0)
    apart = abs(kept.mlp_width / dense.mlp_width - kept.query_heads / dense.query_heads)
    return count > parameters, off, apart


def distinct_totals(counts: Iterable[int]) -> list[int]:
    """The parameter counts to compare at, in order: those that none before is within the tolerance of."""
    totals: list[int] = []
    for count in counts:
        if all(abs(count - total) > TOLERANCE * total for total in totals):
            totals.append(count)
    return totals
