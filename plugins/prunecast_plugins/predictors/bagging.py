"""A bag of estimators, whose spread is the uncertainty, and the predictors that are one."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast.plugins import Floats
from prunecast_plugins.predictors.regression import EncodedOptions, EncodedPredictor


class Estimator(Protocol):
    """The part of a scikit-learn regressor with several outputs that is used here."""

    def fit(self, X: Floats, y: Floats) -> object:
        """Learn from features (N, F) and targets (N, M)."""

    def predict(self, X: Floats) -> Floats:
        """Targets (N, M) of features (N, F)."""


class Bag:
    """Mean of estimators fitted on bootstrap samples (Breiman, Bagging predictors, 1996).

    The standard deviation is the spread of the members, scaled so that over the pairs each member did not see its
    square matches the mean squared error there: a plain spread is far too small.

    Args:
        estimator: makes a member from a seed.
        members: how many, at least 1.
        seed: of the bootstrap samples and of the members' seeds.
    """

    def __init__(self, estimator: Callable[[int], Estimator], members: int, seed: int) -> None:
        self._estimator, self._size, self._seed = estimator, members, seed

    def fit(self, features: Floats, targets: Floats) -> None:
        """Fit all members, each on its own bootstrap sample of features (N, F) and targets (N, M)."""
        rng = np.random.default_rng(self._seed)
        size = max(len(features), 2)  # trees need two rows, a single pair is then drawn twice
        rows = [rng.integers(len(features), size=size) for _ in range(self._size)]
        self._members = [self._estimator(int(rng.integers(2**31))) for _ in rows]
        for member, sample in zip(self._members, rows, strict=True):
            member.fit(features[sample], targets[sample])
        self._outputs = targets.shape[1]
        self._widen = self._calibrate(features, targets, rows)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and scaled spread of the members, both (N, M)."""
        votes = self._votes(features)
        return votes.mean(axis=0), votes.std(axis=0) * self._widen

    def _votes(self, features: Floats) -> Floats:
        shape = (-1, self._outputs)
        return np.stack([np.asarray(m.predict(features), dtype=np.float64).reshape(shape) for m in self._members])

    def _calibrate(self, features: Floats, targets: Floats, rows: list[NDArray[np.int64]]) -> Floats:
        """Factor (M,) from the members' spread to the error on pairs that they did not see."""
        votes = self._votes(features)
        unseen = np.stack([~np.isin(np.arange(len(features)), sample) for sample in rows])
        voters = unseen.sum(axis=0)
        judged = voters >= 2
        if not judged.any():
            return np.ones(targets.shape[1])
        weight = (unseen / np.maximum(voters, 1))[..., None]
        mean = (votes * weight).sum(axis=0)
        spread = (((votes - mean) ** 2) * weight).sum(axis=0)[judged].mean(axis=0)
        error = ((mean - targets) ** 2)[judged].mean(axis=0)
        factor: Floats = np.sqrt(np.divide(error, spread, out=np.ones_like(error), where=spread > 0))
        return factor


class BaggingOptions(EncodedOptions):
    """Options of every bagged predictor."""

    monotone: bool = Field(default=True, description="whether keeping more may never be predicted to be worse")
    members: int = Field(default=8, ge=1, description="estimators in the bag, each fitted on a bootstrap sample")


BaggingOptionsT = TypeVar("BaggingOptionsT", bound=BaggingOptions)


class BaggedPredictor(EncodedPredictor[BaggingOptionsT]):
    """A bag of one kind of estimator; see :class:`Bag`."""

    @abstractmethod
    def estimator(self, seed: int, directions: NDArray[np.int64]) -> Estimator:
        """A fresh regressor for several targets.

        Args:
            seed: makes it reproducible.
            directions: for each feature 1 if no target may fall as it grows, -1 if none may rise, 0 if both may happen.
        """

    def regression(self, directions: NDArray[np.int64]) -> Bag:
        """A bag of the estimator."""
        bounds = directions * self.options.monotone
        return Bag(partial(self.estimator, directions=bounds), self.options.members, self.seed)
