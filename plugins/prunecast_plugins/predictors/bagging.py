"""What the tree predictors share: an encoding, and a bag of estimators whose spread is the uncertainty."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np
from pydantic import Field

from prunecast.architecture import Architecture
from prunecast.encodings import kept_fractions, structured
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

    members: int = Field(default=8, ge=1, description="estimators in the bag, each fitted on a bootstrap sample")
    encoding: Literal["structured", "rates"] = Field(
        default="structured",
        description="features: parts, squares and totals of what is kept, or the paper's two numbers a layer",
    )


BaggingOptionsT = TypeVar("BaggingOptionsT", bound=BaggingOptions)


class BaggedPredictor(Predictor[BaggingOptionsT]):
    """Mean of estimators fitted on bootstrap samples (Breiman, Bagging predictors, 1996).

    The standard deviation of an architecture is the spread of the members, scaled so that over the pairs each member
    did not see its square matches the mean squared error there: a plain spread is far too small.
    """

    @abstractmethod
    def estimator(self, seed: int) -> Estimator:
        """A fresh regressor for several targets."""

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Fit all members on their own bootstrap sample of the standardised targets."""
        if targets.shape[0] != len(architectures) or targets.ndim != 2 or not np.isfinite(targets).all():
            raise PluginError(
                f"a predictor learns from finite targets of shape ({len(architectures)}, M), got {targets.shape}"
            )
        features = self._encode(architectures)
        self._center, spread = targets.mean(axis=0), targets.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        standard = (targets - self._center) / self._scale
        rng = np.random.default_rng(self.seed)
        size = max(len(features), 2)  # trees need two rows, a single pair is then drawn twice
        rows = [rng.integers(len(features), size=size) for _ in range(self.options.members)]
        self._members = [self.estimator(int(rng.integers(2**31))) for _ in rows]
        for member, sample in zip(self._members, rows, strict=True):
            member.fit(features[sample], standard[sample])
        self._widen = self._calibrate(features, standard, rows)

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Mean and scaled spread of the members."""
        votes = self._votes(self._encode(architectures))
        mean, spread = votes.mean(axis=0), votes.std(axis=0)
        return Prediction(mean * self._scale + self._center, spread * self._widen * self._scale)

    def _votes(self, features: Floats) -> Floats:
        targets = len(self._center)
        return np.stack([np.asarray(m.predict(features), dtype=np.float64).reshape(-1, targets) for m in self._members])

    def _calibrate(self, features: Floats, standard: Floats, rows: list["np.ndarray"]) -> Floats:
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
        return np.sqrt(np.divide(error, spread, out=np.ones_like(error), where=spread > 0))

    def _encode(self, architectures: Sequence[Architecture]) -> Floats:
        encode = {"structured": structured, "rates": kept_fractions}[self.options.encoding]
        return encode(architectures, self.shape)
