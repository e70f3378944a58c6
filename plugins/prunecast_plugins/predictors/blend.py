"""A Gaussian process and boosted trees, side by side."""

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

    trees: int = Field(default=200, ge=1, description="boosting rounds of the trees")
    members: int = Field(default=4, ge=1, description="ensembles of trees in the bag")


class Mixture:
    """Equal parts of several regressions: the mean of their means, and the deviation of their mixture."""

    def __init__(self, parts: Sequence[Regression]) -> None:
        self._parts = parts

    def fit(self, features: Floats, targets: Floats) -> None:
        """Fit every part on features (N, F) and targets (N, M)."""
        for part in self._parts:
            part.fit(features, targets)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, both (N, M)."""
        mean, std = (np.stack(each) for each in zip(*(part.predict(features) for part in self._parts), strict=True))
        return mean.mean(axis=0), np.sqrt((std**2).mean(axis=0) + mean.var(axis=0))


class Blend(EncodedPredictor[BlendOptions]):
    """Equal parts of a Gaussian process and of bagged trees that know that keeping more is not worse.

    The process draws smooth slopes, the trees steps; where one fails on few or odd pairs, the other makes up for it.
    """

    options_model = BlendOptions

    def regression(self, directions: NDArray[np.int64]) -> ExcessRegression:
        """The mixture, on logarithms of the excess."""
        trees = XGBoost(XGBoostOptions(trees=self.options.trees), self.shape, self.seed)
        bag = Bag(partial(trees.estimator, directions=directions), self.options.members, self.seed)
        return ExcessRegression(Mixture([GaussianProcess(self.options.steps), bag]))
