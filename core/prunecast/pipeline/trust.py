"""The trust region: how far from everything measured a search may go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prunecast.architecture import Architecture, Sizes, sizes_of
from prunecast.encodings import kept_fractions
from prunecast.interfaces import Floats
from prunecast.shape import ModelShape

Score = Callable[[Sequence[Architecture]], Floats]

OUTSIDE = 1e6
"""Added to the score of what lies outside, times one more than its distance: worse than everything inside, and the
nearer the better, so that a search that starts outside finds its way in."""


def distances(some: Sequence[Architecture], others: Sequence[Architecture], shape: ModelShape) -> Floats:
    """Root mean squared differences of the kept shares of query heads and channels of all layers, shape (N, P)."""
    rows, columns = kept_fractions(some, shape), kept_fractions(others, shape)
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1) - 2 * rows @ columns.T
    apart: Floats = np.sqrt(np.maximum(squares, 0) / rows.shape[1])
    return apart


def largest_steps(some: Sequence[Architecture], others: Sequence[Architecture], shape: ModelShape) -> Floats:
    """Largest difference in any layer's attention or MLP, as a share of the layer's parameters, shape (N, P)."""
    rows, columns, dense = (_parameters(sizes_of(each), shape) for each in (some, others, [shape.dense]))
    whole = np.maximum(dense.reshape(2, -1).sum(axis=0), 1)
    shares = [np.abs(rows - column).reshape(len(rows), 2, -1) / whole for column in columns]
    steps: Floats = np.stack([share.max(axis=(1, 2)) for share in shares], axis=1)
    return steps


def _parameters(sizes: Sizes, shape: ModelShape) -> Floats:
    """Parameters of the attention of every layer, then of the MLPs, shape (N, 2L)."""
    return np.concatenate(shape.component_costs(sizes, "parameters"), axis=1).astype(np.float64)


@dataclass(frozen=True)
class TrustRegion:
    """What is near enough to something measured.

    A regression knows little of what is unlike all it has seen, and its own deviation need not say so; a search finds
    just where it errs in our favour. The idea is that of trust region Bayesian optimisation (Eriksson et al., NeurIPS
    2019), with all measured architectures for the centre.

    Attributes:
        measured: at least one architecture.
        shape: the dense model.
        within: largest of :func:`distances` to the nearest of them; None for any.
        step: largest of :func:`largest_steps` to the nearest of them; None for any.
    """

    measured: Sequence[Architecture]
    shape: ModelShape
    within: float | None = None
    step: float | None = None

    def distance(self, architectures: Sequence[Architecture]) -> Floats:
        """How far each lies from the nearest, in units of the reach, shape (N,); up to 1 is inside."""
        apart = np.zeros((len(architectures), len(self.measured)))
        for reach, measure in ((self.within, distances), (self.step, largest_steps)):
            if reach is not None:
                apart = np.maximum(apart, measure(architectures, self.measured, self.shape) / reach)
        nearest: Floats = apart.min(axis=1)
        return nearest

    def restricted(self, score: Score) -> Score:
        """The score, and more than any score for what is outside."""

        def inside_only(architectures: Sequence[Architecture]) -> Floats:
            apart = self.distance(architectures)
            scores: Floats = score(architectures) + np.where(apart > 1, OUTSIDE * (1 + apart), 0.0)
            return scores

        return inside_only

    def inside(self, found: Sequence[Architecture]) -> list[Architecture]:
        """Those of ``found`` that are inside, in their order."""
        apart = self.distance(found) if found else ()
        return [architecture for architecture, distance in zip(found, apart, strict=True) if distance <= 1]
