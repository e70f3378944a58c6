"""A Gaussian process."""

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast.plugins import Floats
from prunecast_plugins.predictors.excess import MARGIN, ExcessRegression
from prunecast_plugins.predictors.regression import EncodedOptions, EncodedPredictor


class GPOptions(EncodedOptions):
    """Options of the gp predictor."""

    encoding: Literal["structured", "smoothed", "rates"] = Field(
        default="smoothed",
        description="features: parts, squares and totals of what is kept; smoothed: also their means over neighbouring "
        "layers; rates: the paper's two numbers a layer",
    )
    margin: float = Field(
        default=MARGIN,
        gt=0,
        description="how much better than the best pair anything is thought to be at most, in standard deviations of "
        "the pairs; where a search goes far beyond its pairs, give more",
    )
    steps: int = Field(default=40, ge=1, description="most steps in which the kernel is fitted to the pairs")


MOST_PAIRS_OF_KERNEL = 256
"""Pairs the kernel is fitted to, at most: its four numbers are known well by then, and each step takes the cube."""


class GaussianProcess:
    """One Gaussian process a target (Rasmussen and Williams, 2006, chapters 2 and 5).

    The kernel is a linear one, what each part of each layer does by itself, plus a wide radial one, how parts act
    together, plus noise; their weights and width are those of the largest marginal likelihood of up to 256 pairs, at
    equal distances in the order given. Features are standardised, so that what is rarely cut speaks as loudly as what
    often is.

    Args:
        steps: most steps of the optimiser.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def fit(self, features: Floats, targets: Floats) -> None:
        """Learn from features (N, F) and standardised targets (N, M)."""
        from sklearn.exceptions import ConvergenceWarning

        self._center, spread = features.mean(axis=0), features.std(axis=0)
        self._varies = spread > 0
        self._spread = spread[self._varies]
        standard = self._standardised(features)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a bound reached says only that a part is not needed
            self._processes = [self._process(standard, column) for column in targets.T]

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of a measurement, noise included, both (N, M)."""
        standard = self._standardised(features)
        mean, std = zip(*(process.predict(standard, return_std=True) for process in self._processes), strict=True)
        return np.stack(mean, axis=1), np.stack(std, axis=1)

    def _process(self, features: Floats, target: Floats) -> Any:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

        count, width = features.shape
        alone = ConstantKernel(1 / width) * DotProduct(sigma_0=1.0, sigma_0_bounds="fixed")
        together = ConstantKernel(0.5) * RBF(2 * np.sqrt(width))
        few = np.linspace(0, count - 1, min(count, MOST_PAIRS_OF_KERNEL)).astype(np.int64)
        process = GaussianProcessRegressor(alone + together + WhiteKernel(0.1), optimizer=self._climb)
        process.fit(features[few], target[few])
        if len(few) == count:
            return process
        return GaussianProcessRegressor(process.kernel_, optimizer=None).fit(features, target)

    def _climb(self, objective: Any, start: Floats, bounds: Floats) -> tuple[Floats, float]:
        from scipy.optimize import minimize

        found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": self._steps})
        return found.x, float(found.fun)

    def _standardised(self, features: Floats) -> Floats:
        """Features that vary, shape (N, F'), with a column of zeros if none does."""
        varying = (features - self._center)[:, self._varies] / self._spread
        return varying if varying.shape[1] else np.zeros((len(features), 1))


class GP(EncodedPredictor[GPOptions]):
    """A Gaussian process on logarithms of the excess; see :class:`GaussianProcess` and :class:`ExcessRegression`.

    On 109 recorded pairs of SmolLM2-135M near 80 % (compensated; WikiText-2 and PTB), mean of ten 7:3 splits: R2 0.938
    and Kendall tau of the sum 0.902, where ``xgboost`` reaches 0.840 and 0.861, ``blend`` 0.925 and 0.901.
    """

    options_model = GPOptions

    def regression(self, directions: NDArray[np.int64]) -> ExcessRegression:
        """A Gaussian process; it keeps no direction."""
        return ExcessRegression(GaussianProcess(self.options.steps), self.options.margin)
