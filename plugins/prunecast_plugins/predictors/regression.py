"""Base of predictors that apply a regression to encoded architectures and standardised targets.

Notation:
    N, F, M  numbers of architectures, features and targets
    X        features of the architectures, all in [0, 1], shape (N, F)
    e        direction of each feature: 1 if targets tend to rise with it, -1 if they tend to fall, shape (F,)
    k        signed mean of the features, X e / F, which rises with the total kept size, shape (N,)
    Y        targets, shape (N, M)
    mu       mean of each target over the architectures, shape (M,)
    sigma    standard deviation of each target, with the sign of its covariance with k, shape (M,)
    T        standardised targets (Y - mu) / sigma, which rise with k, shape (N, M)
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast.plugins import (
    Architecture,
    Floats,
    PluginError,
    PluginOptions,
    Prediction,
    Predictor,
    kept_fractions,
    kept_fractions_directions,
    smoothed,
    smoothed_directions,
    structured,
    structured_directions,
)

_ENCODINGS = {
    "structured": (structured, structured_directions),
    "smoothed": (smoothed, smoothed_directions),
    "rates": (kept_fractions, kept_fractions_directions),
}


class Regression(Protocol):
    """A regression with several targets that predicts a mean and a standard deviation of each."""

    def fit(self, features: Floats, targets: Floats) -> object:
        """Fit to features (N, F), all in [0, 1], and targets (N, M) of mean 0 and standard deviation 1."""

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, both (N, M), of features (N, F)."""


class EncodedOptions(PluginOptions):
    """Options of every predictor on encoded architectures."""

    encoding: Literal["structured", "smoothed", "rates"] = Field(
        default="structured",
        description="features; structured: kept fractions and squared removed fractions per layer and in total; "
        "smoothed: also averages over neighbouring layers; rates: the paper's two numbers per layer",
    )


EncodedOptionsT = TypeVar("EncodedOptionsT", bound=EncodedOptions)


class EncodedPredictor(Predictor[EncodedOptionsT]):
    """A regression from encoded architectures to standardised targets.

    The sign of each target is chosen so that it rises with the total kept size. A regression may then be constrained to
    rise with every part of an architecture, which makes it more stable if there are few pairs.
    """

    @abstractmethod
    def regression(self, directions: NDArray[np.int64]) -> Regression:
        """A fresh regression.

        Args:
            directions: for each feature 1 if targets tend to rise with it, -1 if they tend to fall; shape (F,).
        """

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Fit a fresh regression on the standardised targets."""
        if targets.shape[0] != len(architectures) or targets.ndim != 2 or not np.isfinite(targets).all():
            raise PluginError(
                f"a predictor needs finite targets of shape ({len(architectures)}, M), got {targets.shape}"
            )
        features = self._encode(architectures)
        self._center, spread = targets.mean(axis=0), targets.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        kept = features @ self._directions / len(self._directions)
        falls = (kept - kept.mean()) @ (targets - self._center) < 0
        # Each target is turned to rise with what is kept, so that the same directions hold for all of them.
        self._scale *= np.where(falls, -1.0, 1.0)
        self._regression = self.regression(self._directions)
        with _one_thread():
            self._regression.fit(features, (targets - self._center) / self._scale)

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Mean and standard deviation of the regression, on the scale of the targets."""
        with _one_thread():
            mean, std = self._regression.predict(self._encode(architectures))
        return Prediction(mean * self._scale + self._center, std * np.abs(self._scale))

    @property
    def _directions(self) -> NDArray[np.int64]:
        return _ENCODINGS[self.options.encoding][1](len(self.shape.dense.layers))

    def _encode(self, architectures: Sequence[Architecture]) -> Floats:
        return _ENCODINGS[self.options.encoding][0](architectures, self.shape)


def _one_thread() -> AbstractContextManager[object]:
    """Limit native libraries to one thread: for few pairs, synchronising threads costs more time than it saves."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits
