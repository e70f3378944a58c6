"""A predictor for prunecast: quantile regression by LightGBM."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from prunecast.plugins import (
    Architecture,
    Entry,
    Floats,
    PluginError,
    PluginOptions,
    Prediction,
    Predictor,
    hookimpl,
    structured,
)

QUANTILES = (0.1587, 0.5, 0.8413)
"""Quantiles of a normal distribution at its median and one standard deviation below and above."""


@hookimpl
def prunecast_predictors() -> list[Entry]:
    """Quantile regression by gradient-boosted trees."""
    return [
        Entry(
            "lightgbm",
            "prunecast_lightgbm:LightGBM",
            "Quantile regression by LightGBM: median, and half the distance between two outer quantiles",
            "Ke et al., NIPS 2017",
        )
    ]


class LightGBMOptions(PluginOptions):
    """Options of the lightgbm predictor."""

    trees: int = Field(default=100, ge=1, description="number of boosting rounds of each quantile")
    leaves: int = Field(default=7, ge=2, description="maximum number of leaves of a tree")
    pairs_in_leaf: int = Field(default=3, ge=1, description="minimum number of pairs in a leaf")
    learning_rate: float = Field(default=0.08, gt=0, le=1, description="shrinkage of each tree")


class LightGBM(Predictor[LightGBMOptions]):
    """Boosted trees with the pinball loss (Koenker and Bassett, Econometrica 46, 1978), three quantiles per target.

    The mean is the predicted median. The standard deviation is half the distance between the quantiles that are one
    standard deviation from the median in a normal distribution, or 0 if they cross.
    """

    options_model = LightGBMOptions

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Fit every quantile of every target."""
        if targets.ndim != 2 or not np.isfinite(targets).all():
            raise PluginError(f"lightgbm needs finite targets of shape (N, M), got {targets.shape}")
        rows = np.resize(np.arange(len(targets)), max(len(targets), 2))  # LightGBM needs two rows or more
        features, targets = structured(architectures, self.shape)[rows], targets[rows]
        # The gradients of the pinball loss do not grow with the error, so boosting needs targets of unit scale.
        self._center = np.median(targets, axis=0)
        self._scale = np.where(targets.std(axis=0) > 0, targets.std(axis=0), 1.0)
        standard = (targets - self._center) / self._scale
        self._models = [[self._quantile(q).fit(features, column) for q in QUANTILES] for column in standard.T]

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Median, and half the distance between the outer quantiles."""
        features = structured(architectures, self.shape)
        quantiles = np.array([[model.predict(features) for model in models] for models in self._models])
        low, median, high = quantiles.transpose(1, 2, 0)  # each (N, M)
        spread = np.maximum(high - low, 0) / 2
        return Prediction(median * self._scale + self._center, spread * self._scale)

    def _quantile(self, quantile: float):
        import lightgbm

        return lightgbm.LGBMRegressor(
            objective="quantile",
            alpha=quantile,
            n_estimators=self.options.trees,
            num_leaves=self.options.leaves,
            min_child_samples=self.options.pairs_in_leaf,
            min_data_in_bin=1,
            learning_rate=self.options.learning_rate,
            random_state=self.seed,
            n_jobs=1,
            deterministic=True,
            force_row_wise=True,
            verbosity=-1,
        )
