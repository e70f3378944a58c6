"""Gradient-boosted decision trees of scikit-learn."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast_plugins.predictors.bagging import BaggedPredictor, BaggingOptions, Estimator


class GBDTOptions(BaggingOptions):
    """Options of the gbdt predictor."""

    trees: int = Field(default=200, ge=1, description="number of boosting rounds")
    depth: int = Field(default=3, ge=1, description="maximum depth of a tree")
    leaf: int = Field(default=3, ge=1, description="minimum number of pairs in a leaf")
    learning_rate: float = Field(default=0.06, gt=0, le=1, description="shrinkage of each tree")
    feature_share: float = Field(default=0.2, gt=0, le=1, description="fraction of the features available to a split")


class GBDT(BaggedPredictor[GBDTOptions]):
    """The paper's predictor (arXiv 2309.09507, section 3.2): one boosted ensemble per target, bagged.

    The trees are scikit-learn's histogram-based ones, because these support monotonic constraints.
    """

    options_model = GBDTOptions

    def estimator(self, seed: int, directions: NDArray[np.int64]) -> Estimator:
        """One HistGradientBoostingRegressor per target.

        One set of monotonic constraints suits all targets, because ``fit`` has turned each to rise with what is kept.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.multioutput import MultiOutputRegressor

        trees = HistGradientBoostingRegressor(
            max_iter=self.options.trees,
            max_depth=self.options.depth,
            min_samples_leaf=self.options.leaf,
            learning_rate=self.options.learning_rate,
            max_features=self.options.feature_share,
            monotonic_cst=directions,
            early_stopping=False,
            random_state=seed,
        )
        regressor: Estimator = MultiOutputRegressor(trees)
        return regressor
