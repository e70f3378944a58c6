"""Gradient-boosted decision trees of XGBoost."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast_plugins.predictors.bagging import BaggedPredictor, BaggingOptions, Estimator


class XGBoostOptions(BaggingOptions):
    """Options of the xgboost predictor."""

    trees: int = Field(default=200, ge=1, description="number of boosting rounds")
    depth: int = Field(default=2, ge=1, description="maximum depth of a tree")
    learning_rate: float = Field(default=0.08, gt=0, le=1, description="shrinkage of each tree")
    row_share: float = Field(default=0.8, gt=0, le=1, description="fraction of the pairs that a tree is fitted to")
    feature_share: float = Field(default=0.3, gt=0, le=1, description="fraction of the features available to a tree")


class XGBoost(BaggedPredictor[XGBoostOptions]):
    """XGBoost (arXiv 1603.02754) with exact greedy splits, one ensemble per target, bagged."""

    options_model = XGBoostOptions

    def estimator(self, seed: int, directions: NDArray[np.int64]) -> Estimator:
        """One XGBRegressor, with a single thread so that the same seed gives the same trees."""
        from xgboost import XGBRegressor

        regressor: Estimator = XGBRegressor(
            n_estimators=self.options.trees,
            max_depth=self.options.depth,
            learning_rate=self.options.learning_rate,
            subsample=self.options.row_share,
            colsample_bytree=self.options.feature_share,
            tree_method="exact",
            monotone_constraints=tuple(directions.tolist()),
            n_jobs=1,
            random_state=seed,
        )
        return regressor
