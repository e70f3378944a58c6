"""Equal mixture of a Gaussian process and boosted trees.

Notation:
    N, F, M  numbers of architectures, features and targets
    R        number of regressions
    mu_r     mean predicted by regression r, shape (N, M)
    sigma_r  standard deviation predicted by regression r, shape (N, M)

The mixture has the mean sum_r mu_r / R, and the variance sum_r sigma_r^2 / R plus the variance of mu_r over r.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast.plugins import Floats
from prunecast_plugins.predictors.bagging import Bag
from prunecast_plugins.predictors.excess import ExcessRegression
from prunecast_plugins.predictors.gp import GaussianProcess, GPOptions
from prunecast_plugins.predictors.regression import EncodedPredictor, Regression
from prunecast_plugins.predictors.xgboost import XGBoost, XGBoostOptions


class BlendOptions(GPOptions):
    """Options of the blend predictor."""

    trees: int = Field(default=200, ge=1, description="number of boosting rounds of each ensemble of trees")
    members: int = Field(default=4, ge=1, description="number of ensembles of trees in the bag")


class Mixture:
    """Mixture of several regressions with equal weights: its mean and standard deviation."""

    def __init__(self, parts: Sequence[Regression]) -> None:
        self._parts = parts

    def fit(self, features: Floats, targets: Floats) -> None:
        """Fit every regression to features (N, F) and targets (N, M)."""
        for part in self._parts:
            part.fit(features, targets)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, both (N, M)."""
        mean, std = (np.stack(each) for each in zip(*(part.predict(features) for part in self._parts), strict=True))
        return mean.mean(axis=0), np.sqrt((std**2).mean(axis=0) + mean.var(axis=0))


class Blend(EncodedPredictor[BlendOptions]):
    """Equal mixture of a Gaussian process and of bagged trees with monotonic constraints.

    The process is smooth and the trees are piecewise constant; if one of them fits few or unusual pairs badly, the
    other compensates.
    """

    options_model = BlendOptions

    def regression(self, directions: NDArray[np.int64]) -> ExcessRegression:
        """The mixture, on the logarithms of :class:`ExcessRegression`."""
        trees = XGBoost(XGBoostOptions(trees=self.options.trees), self.shape, self.seed)
        bag = Bag(partial(trees.estimator, directions=directions), self.options.members, self.seed)
        return ExcessRegression(Mixture([GaussianProcess(self.options.steps), bag]))
