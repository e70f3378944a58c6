"""A predictor: ridge regression on the kept fractions of attention and MLP of every layer."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from prunecast.plugins import (
    Architecture,
    Floats,
    PluginError,
    PluginOptions,
    Prediction,
    Predictor,
    kept_fractions,
)


class RidgeOptions(PluginOptions):
    """Options of the predictor."""

    penalty: float = Field(default=0.1, gt=0, description="weight of the squared coefficients")


class Ridge(Predictor[RidgeOptions]):
    """Least squares with a penalty on the squared coefficients (Hoerl and Kennard, 1970, equation 2.1).

    The standard deviation of a prediction is that of the residuals of the fit, the same for every architecture.
    """

    options_model = RidgeOptions

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Solve the normal equations. Raises PluginError for targets that are not finite."""
        if not np.isfinite(targets).all():
            raise PluginError("the targets are not all finite: leave out architectures that could not be measured")
        features = kept_fractions(architectures, self.shape)
        self._feature_mean, self._target_mean = features.mean(axis=0), targets.mean(axis=0)
        centred = features - self._feature_mean
        gram = centred.T @ centred + self.options.penalty * np.eye(features.shape[1])
        self._weights = np.linalg.solve(gram, centred.T @ (targets - self._target_mean))
        self._spread = (targets - self.predict_mean(features)).std(axis=0)

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Mean from the regression; standard deviation of the residuals of the fit."""
        mean = self.predict_mean(kept_fractions(architectures, self.shape))
        return Prediction(mean, np.broadcast_to(self._spread, mean.shape))

    def predict_mean(self, features: Floats) -> Floats:
        """Mean of shape (N, M) for features of shape (N, F)."""
        mean: Floats = (features - self._feature_mean) @ self._weights + self._target_mean
        return mean
