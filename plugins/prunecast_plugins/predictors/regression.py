"""What predictors built on a regression share: an encoding in, standardised targets, and the way back."""

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
    """Learns several numbers, and how sure it is of each, from features."""

    def fit(self, features: Floats, targets: Floats) -> object:
        """Learn from features (N, F), all in [0, 1], and targets (N, M) of mean 0 and standard deviation 1."""

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, both (N, M), of features (N, F)."""


class EncodedOptions(PluginOptions):
    """Options of every predictor on encoded architectures."""

    encoding: Literal["structured", "smoothed", "rates"] = Field(
        default="structured",
        description="features: parts, squares and totals of what is kept; smoothed: also their means over neighbouring "
        "layers; rates: the paper's two numbers a layer",
    )


EncodedOptionsT = TypeVar("EncodedOptionsT", bound=EncodedOptions)


class EncodedPredictor(Predictor[EncodedOptionsT]):
    """A regression from encoded architectures to standardised targets.

    Targets are turned so that they rise with the total that is kept; a regression may then insist that they rise with
    every part of it, which steadies it where pairs are few.
    """

    @abstractmethod
    def regression(self, directions: NDArray[np.int64]) -> Regression:
        """A fresh regression.

        Args:
            directions: for each feature 1 if targets tend to rise as it grows, -1 if they tend to fall.
        """

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Fit a fresh regression on the standardised targets."""
        if targets.shape[0] != len(architectures) or targets.ndim != 2 or not np.isfinite(targets).all():
            raise PluginError(
                f"a predictor learns from finite targets of shape ({len(architectures)}, M), got {targets.shape}"
            )
        features = self._encode(architectures)
        self._center, spread = targets.mean(axis=0), targets.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        kept = features @ self._directions / len(self._directions)
        self._scale *= np.where((kept - kept.mean()) @ (targets - self._center) < 0, -1.0, 1.0)
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
    """Pairs are few: threads that wait for one another, on cores that others use too, cost more than they save."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits
