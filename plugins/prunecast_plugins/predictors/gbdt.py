"""Gradient-boosted decision trees of scikit-learn."""

from pydantic import Field

from prunecast_plugins.predictors.bagging import BaggedPredictor, BaggingOptions, Estimator


class GBDTOptions(BaggingOptions):
    """Options of the gbdt predictor."""

    trees: int = Field(default=200, ge=1, description="boosting rounds")
    depth: int = Field(default=3, ge=1, description="depth of a tree")
    learning_rate: float = Field(default=0.06, gt=0, le=1, description="shrinkage of each tree")
    row_share: float = Field(default=0.8, gt=0, le=1, description="share of the pairs a tree sees")
    feature_share: float = Field(default=0.2, gt=0, le=1, description="share of the features a split may use")


class GBDT(BaggedPredictor[GBDTOptions]):
    """The paper's predictor (arXiv 2309.09507, section 3.2): one boosted ensemble a target, on a bootstrap bag."""

    options_model = GBDTOptions

    def estimator(self, seed: int) -> Estimator:
        """One GradientBoostingRegressor a target."""
        from sklearn.ensemble import GradientBoostingRegressor
        from sklearn.multioutput import MultiOutputRegressor

        trees = GradientBoostingRegressor(
            n_estimators=self.options.trees,
            max_depth=self.options.depth,
            learning_rate=self.options.learning_rate,
            subsample=self.options.row_share,
            max_features=self.options.feature_share,
            random_state=seed,
        )
        regressor: Estimator = MultiOutputRegressor(trees)
        return regressor
