"""Bagging: the mean and the calibrated spread of estimators fitted on bootstrap samples.

Notation:
    N, F, M  numbers of pairs, features and targets
    B        number of estimators in the bag (members)
    v        predictions of the members, shape (B, N, M)
    u        True where a pair is not in a member's bootstrap sample (out of bag), shape (B, N)
    m        mean of v over the members for which a pair is out of bag, shape (N, M)
    s^2      variance of v over the same members, shape (N, M)
    f        factor of the spread, sqrt(mean (m - targets)^2 / mean s^2) over pairs out of bag for two members or more,
             shape (M,)
"""

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
    """Interface of a scikit-learn regressor with several targets, as far as it is used here."""

    def fit(self, X: Floats, y: Floats) -> object:
        """Fit to features (N, F) and targets (N, M)."""

    def predict(self, X: Floats) -> Floats:
        """Predictions (N, M) for features (N, F)."""


class Bag:
    """Mean of estimators fitted on bootstrap samples (Breiman, Bagging predictors, 1996).

    The standard deviation is the spread of the members times the factor f, with which the mean variance of out-of-bag
    predictions equals their mean squared error; without it the spread is much too small.

    Args:
        estimator: function from a seed to a member.
        members: number of members, at least 1.
        seed: seed of the bootstrap samples and of the members' seeds.
    """

    def __init__(self, estimator: Callable[[int], Estimator], members: int, seed: int) -> None:
        self._estimator, self._size, self._seed = estimator, members, seed

    def fit(self, features: Floats, targets: Floats) -> None:
        """Fit every member on its own bootstrap sample of features (N, F) and targets (N, M)."""
        rng = np.random.default_rng(self._seed)
        size = max(len(features), 2)  # trees need two rows; a single pair is drawn twice
        rows = [rng.integers(len(features), size=size) for _ in range(self._size)]
        self._members = [self._estimator(int(rng.integers(2**31))) for _ in rows]
        for member, sample in zip(self._members, rows, strict=True):
            member.fit(features[sample], targets[sample])
        self._outputs = targets.shape[1]
        self._factor = self._calibrate(features, targets, rows)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and scaled spread of the members, both (N, M)."""
        votes = self._votes(features)
        return votes.mean(axis=0), votes.std(axis=0) * self._factor

    def _votes(self, features: Floats) -> Floats:
        shape = (-1, self._outputs)
        return np.stack([np.asarray(m.predict(features), dtype=np.float64).reshape(shape) for m in self._members])

    def _calibrate(self, features: Floats, targets: Floats, rows: list[NDArray[np.int64]]) -> Floats:
        """The factor f (M,); 1 if no pair is out of bag for two members, or if s^2 is 0."""
        votes = self._votes(features)
        unseen = np.stack([~np.isin(np.arange(len(features)), sample) for sample in rows])
        voters = unseen.sum(axis=0)
        usable = voters >= 2
        if not usable.any():
            return np.ones(targets.shape[1])
        weight = (unseen / np.maximum(voters, 1))[..., None]
        mean = (votes * weight).sum(axis=0)
        spread = (((votes - mean) ** 2) * weight).sum(axis=0)[usable].mean(axis=0)
        error = ((mean - targets) ** 2)[usable].mean(axis=0)
        factor: Floats = np.sqrt(np.divide(error, spread, out=np.ones_like(error), where=spread > 0))
        return factor


class BaggingOptions(EncodedOptions):
    """Options of every bagged predictor."""

    monotone: bool = Field(default=True, description="true: predictions never get worse as an architecture keeps more")
    members: int = Field(default=8, ge=1, description="estimators in the bag, each fitted on a bootstrap sample")


BaggingOptionsT = TypeVar("BaggingOptionsT", bound=BaggingOptions)


class BaggedPredictor(EncodedPredictor[BaggingOptionsT]):
    """A predictor that bags an estimator; see :class:`Bag`."""

    @abstractmethod
    def estimator(self, seed: int, directions: NDArray[np.int64]) -> Estimator:
        """A fresh regressor for several targets.

        Args:
            seed: seed of the regressor.
            directions: constraint of each feature: 1 if predictions must not fall with it, -1 if they must not rise,
                0 for none; shape (F,).
        """

    def regression(self, directions: NDArray[np.int64]) -> Bag:
        """A bag of estimators, with monotonic constraints if ``monotone`` is set."""
        bounds = directions * self.options.monotone
        return Bag(partial(self.estimator, directions=bounds), self.options.members, self.seed)
