"""Targets as logarithms of what is missing to the best."""

import numpy as np

from prunecast.plugins import Floats
from prunecast_plugins.predictors.regression import Regression

MARGIN = 1.0
"""How far above the best pair the point lies that is missing, in standard deviations of the targets, by default."""

WIDEST = 3.0
"""Standard deviations are bounded by this before they are brought back through the exponential."""


class ExcessRegression:
    """A regression that learns t as -log(c - t), standardised, where c lies above every pair.

    Cuts multiply the harm that other cuts do: the loss in excess of the dense model's spans orders of magnitude, its
    logarithm is nearly a sum over the layers (a warped regression, Snelson et al., NIPS 2003, with a fixed warp).

    Args:
        inner: what learns the logarithms.
        margin: standard deviations of the targets from the best pair to c, above 0. Nothing is ever predicted to lie
            beyond c; the further away it is, the nearer to a line the warp.
    """

    def __init__(self, inner: Regression, margin: float = MARGIN) -> None:
        self._inner, self._margin = inner, margin

    def fit(self, features: Floats, targets: Floats) -> None:
        """Learn from features (N, F) and standardised targets (N, M) that rise with what is kept."""
        self._best = targets.max(axis=0) + self._margin
        logarithms = -np.log(self._best - targets)
        self._center, spread = logarithms.mean(axis=0), logarithms.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        standard = (logarithms - self._center) / self._scale
        self._worst = standard.min(axis=0) - MARGIN
        self._inner.fit(features, standard)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """The median, and half of the interval between one standard deviation of the logarithm below and above it."""
        mean, std = self._inner.predict(features)
        mean = np.maximum(mean, self._worst)  # what is worse than all pairs is bad enough, its exponential says no more
        missing = np.exp(-(mean * self._scale + self._center))
        return self._best - missing, missing * np.sinh(np.minimum(std * self._scale, WIDEST))
