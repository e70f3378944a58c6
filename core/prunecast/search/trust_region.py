"""The trust region: how far from everything measured a search may go."""

from collections.abc import Callable, Sequence

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.encodings import distances
from prunecast.architecture.shape import ModelShape

Score = Callable[[Sequence[Architecture]], Floats]

OUTSIDE = 1e6
"""Added to the score of what lies outside, times one more than its distance: worse than everything inside, and the
nearer the better, so that a search that starts outside finds its way in."""


def within(score: Score, measured: Sequence[Architecture], shape: ModelShape, reach: float) -> Score:
    """The score, and more than any score for what is further than ``reach`` from all that was measured.

    A regression knows little of what is unlike all it has seen, and its own deviation need not say so; a search finds
    just where it errs in our favour. The idea is that of trust region Bayesian optimisation (Eriksson et al., NeurIPS
    2019), with all measured architectures for the centre.
    """

    def restricted(architectures: Sequence[Architecture]) -> Floats:
        apart = _from_nearest(architectures, measured, shape)
        scores: Floats = score(architectures) + np.where(apart > reach, OUTSIDE * (1 + apart), 0.0)
        return scores

    return restricted


def inside(
    found: Sequence[Architecture], measured: Sequence[Architecture], shape: ModelShape, reach: float
) -> list[Architecture]:
    """Those of ``found`` that are no further than ``reach`` from something measured, in their order."""
    apart = _from_nearest(found, measured, shape) if found else ()
    return [architecture for architecture, distance in zip(found, apart, strict=True) if distance <= reach]


def _from_nearest(some: Sequence[Architecture], measured: Sequence[Architecture], shape: ModelShape) -> Floats:
    """How far each lies from the nearest that was measured, shape (N,)."""
    nearest: Floats = distances(some, measured, shape).min(axis=1)
    return nearest
