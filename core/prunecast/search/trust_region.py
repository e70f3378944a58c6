"""The trust region: a bound on the distance between a proposal and the nearest measured architecture.

Notation: N architectures, P measured ones, radius r in root mean squared differences of kept shares.
"""

from collections.abc import Callable, Sequence

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.encodings import distances
from prunecast.architecture.shape import ModelShape

Score = Callable[[Sequence[Architecture]], Floats]

PENALTY = 1e6
"""Added to the score of an architecture outside the trust region, times one more than its distance: worse than every
score inside, and decreasing towards the region, so that a search that starts outside finds its way in."""


def penalised_outside(score: Score, measured: Sequence[Architecture], shape: ModelShape, radius: float) -> Score:
    """The score, with a penalty for architectures that are further than ``radius`` from every measured one.

    Regressors extrapolate badly, and a search exploits their optimistic errors. The idea is from trust
    region Bayesian optimisation (Eriksson et al., NeurIPS 2019), here with all measured architectures as centres.
    """

    def penalised(architectures: Sequence[Architecture]) -> Floats:
        apart = _from_nearest(architectures, measured, shape)
        scores: Floats = score(architectures) + np.where(apart > radius, PENALTY * (1 + apart), 0.0)
        return scores

    return penalised


def members(
    architectures: Sequence[Architecture], measured: Sequence[Architecture], shape: ModelShape, radius: float
) -> list[Architecture]:
    """The architectures that are at most ``radius`` away from a measured one, in their order."""
    apart = _from_nearest(architectures, measured, shape) if architectures else ()
    return [architecture for architecture, distance in zip(architectures, apart, strict=True) if distance <= radius]


def _from_nearest(some: Sequence[Architecture], measured: Sequence[Architecture], shape: ModelShape) -> Floats:
    """Distance of each architecture to the nearest measured one, shape (N,)."""
    nearest: Floats = distances(some, measured, shape).min(axis=1)
    return nearest
