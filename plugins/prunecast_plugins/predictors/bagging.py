"""What the tree predictors share: an encoding, and a bag of estimators whose spread is the uncertainty."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast.architecture import Architecture
from prunecast.encodings import kept_fractions, kept_fractions_directions, structured, structured_directions
from prunecast.errors import PluginError
from prunecast.interfaces import Floats, PluginOptions, Prediction, Predictor


class Estimator(Protocol):
    """The part of a scikit-learn regressor with several outputs that is used here."""

    def fit(self, X: Floats, y: Floats) -> object:
        """Learn from features (N, F) and targets (N, M)."""

    def predict(self, X: Floats) -> Floats:
        """Targets (N, M) of features (N, F)."""


class BaggingOptions(PluginOptions):
    """Options of every bagged predictor."""

    monotone: bool = Field(default=True, description="whether keeping more may never be predicted to be worse")
    members: int = Field(default=8, ge=1, description="estimators in the bag, each fitted on a bootstrap sample")
    encoding: Literal["structured", "rates"] = Field(
        default="structured",
        description="features: parts, squares and totals of what is kept, or the paper's two numbers a layer",
    )


BaggingOptionsT = TypeVar("BaggingOptionsT", bound=BaggingOptions)


class BaggedPredictor(Predictor[BaggingOptionsT]):
    """Mean of estimators fitted on bootstrap samples (Breiman, Bagging predictors, 1996).

    Targets are standardised and turned so that they rise with the total that is kept; an estimator may then insist that
    they rise with every part of it, which steadies it where pairs are few.

    The standard deviation of an architecture is the spread of the members, scaled so that over the pairs each member
    did not see its square matches the mean squared error there: a plain spread is far too small.
    """

    @abstractmethod
    def estimator(self, seed: int, directions: NDArray[np.int64]) -> Estimator:
        """A fresh regressor for several targets.

        Args:
            seed: makes it reproducible.
            directions: for each feature 1 if no target may fall as it grows, -1 if none may rise, 0 if both may happen.
        """

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Fit all members on their own bootstrap sample of the standardised targets."""
        if targets.shape[0] != len(architectures) or targets.ndim != 2 or not np.isfinite(targets).all():
            raise PluginError(
                f"a predictor learns from finite targets of shape ({len(architectures)}, M), got {targets.shape}"
            )
        features = self._encode(architectures)
        self._center, spread = targets.mean(axis=0), targets.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        kept = features @ self._directions / len(self._directions)
        self._scale *= np.where((kept - kept.mean()) @ (targets - self._center) < 0, -1.0, 1.0)
        standard = (targets - self._center) / self._scale
        rng = np.random.default_rng(self.seed)
        size = max(len(features), 2)  # trees need two rows, a single pair is then drawn twice
        rows = [rng.integers(len(features), size=size) for _ in range(self.options.members)]
        directions = self._directions * self.options.monotone
        self._members = [self.estimator(int(rng.integers(2**31)), directions) for _ in rows]
        with _one_thread():
            for member, sample in zip(self._members, rows, strict=True):
                member.fit(features[sample], standard[sample])
        self._widen = self._calibrate(features, standard, rows)

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Mean and scaled spread of the members."""
        votes = self._votes(self._encode(architectures))
        mean, spread = votes.mean(axis=0), votes.std(axis=0)
        return Prediction(mean * self._scale + self._center, spread * self._widen * np.abs(self._scale))

    def _votes(self, features: Floats) -> Floats:
        shape = (-1, len(self._center))
        with _one_thread():
            return np.stack([np.asarray(m.predict(features), dtype=np.float64).reshape(shape) for m in self._members])

    def _calibrate(self, features: Floats, standard: Floats, rows: list[NDArray[np.int64]]) -> Floats:
        """Factor (M,) from the members' spread to the error on pairs that they did not see."""
        votes = self._votes(features)
        unseen = np.stack([~np.isin(np.arange(len(features)), sample) for sample in rows])
        voters = unseen.sum(axis=0)
        judged = voters >= 2
        if not judged.any():
            return np.ones(standard.shape[1])
        weight = (unseen / np.maximum(voters, 1))[..., None]
        mean = (votes * weight).sum(axis=0)
        spread = (((votes - mean) ** 2) * weight).sum(axis=0)[judged].mean(axis=0)
        error = ((mean - standard) ** 2)[judged].mean(axis=0)
        factor: Floats = np.sqrt(np.divide(error, spread, out=np.ones_like(error), where=spread > 0))
        return factor

    @property
    def _directions(self) -> NDArray[np.int64]:
        directions = {"structured": structured_directions, "rates": kept_fractions_directions}[self.options.encoding]
        return directions(len(self.shape.dense.layers))

    def _encode(self, architectures: Sequence[Architecture]) -> Floats:
        encode = {"structured": structured, "rates": kept_fractions}[self.options.encoding]
        return encode(architectures, self.shape)


def _one_thread() -> AbstractContextManager[object]:
    """Pairs are few: threads that wait for one another, on cores that others use too, cost more than they save."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits
