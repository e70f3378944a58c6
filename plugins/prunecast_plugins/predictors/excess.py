"""Regression on logarithms of the distance of targets from an upper bound.

Notation:
    N, F, M  numbers of architectures, features and targets
    t        standardised targets, which rise with the kept size, shape (N, M)
    d        margin, in standard deviations of the targets, above 0
    c        upper bound of each target, max t + d, shape (M,)
    z        transformed targets -log(c - t), standardised, shape (N, M)
    mu, sd   predicted mean and standard deviation of -log(c - t), shape (N, M)

Predictions are the median c - exp(-mu), and half the interval between the transformed values mu - sd and mu + sd, which
is exp(-mu) sinh(sd). Before that, mu is raised to at least one standard deviation of -log(c - t) below its value at the
worst pair, and sd is limited to ``WIDEST``.
"""

import numpy as np

from prunecast.plugins import Floats
from prunecast_plugins.predictors.regression import Regression

MARGIN = 1.0
"""Default margin d, in standard deviations of the targets."""

WIDEST = 3.0
"""Upper bound of sd before it is transformed back."""


class ExcessRegression:
    """A regression on -log(c - t) in place of a target t, where c is above the targets of all pairs.

    The effects of removals multiply: the loss in excess of that of the dense model spans orders of magnitude, and its
    logarithm is nearly a sum over layers. This is a warped regression (Snelson et al., NIPS 2003) with a fixed warp.

    Args:
        inner: regression on the transformed targets.
        margin: distance d of c from the best pair, in standard deviations of the targets, above 0. No prediction
            exceeds c; the larger d is, the closer the transformation is to a linear one.
    """

    def __init__(self, inner: Regression, margin: float = MARGIN) -> None:
        self._inner, self._margin = inner, margin

    def fit(self, features: Floats, targets: Floats) -> None:
        """Fit to features (N, F) and standardised targets (N, M) that rise with the kept size."""
        self._best = targets.max(axis=0) + self._margin
        logarithms = -np.log(self._best - targets)
        self._center, spread = logarithms.mean(axis=0), logarithms.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        standard = (logarithms - self._center) / self._scale
        self._worst = standard.min(axis=0) - MARGIN
        self._inner.fit(features, standard)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Median, and half the interval of one standard deviation of the logarithm around it, both (N, M)."""
        mean, std = self._inner.predict(features)
        mean = np.maximum(mean, self._worst)  # far below all pairs the exponential would exaggerate
        missing = np.exp(-(mean * self._scale + self._center))
        return self._best - missing, missing * np.sinh(np.minimum(std * self._scale, WIDEST))
