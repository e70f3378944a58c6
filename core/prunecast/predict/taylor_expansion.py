"""Expansions: a predictor that knows what each step away from some measured architectures changes.

From pairs alone a regression learns what fifty choices do together. Around an architecture whose steps have been
estimated (:mod:`prunecast.models.sensitivity`) it is known what each does by itself, so only what steps do beyond their sum
is left to learn: a Taylor expansion without its mixed terms, and a regression for the remainder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats, Sizes, sizes_of
from prunecast.architecture.choices import COLUMNS, Choice
from prunecast.architecture.encodings import distances
from prunecast.architecture.shape import ModelShape
from prunecast.plugins.interfaces import PluginOptions, Prediction, Predictor


@dataclass(frozen=True)
class Steps:
    """What steps in one choice change, each taken by itself.

    Attributes:
        choice: the choice.
        order: where the G values lie whose change is known, ascending, of shape (G,).
        changes: of M metrics, on the scale predictors learn, to first order and what the second adds, shape (G, 2, M);
            zero for the value of the centre.
    """

    choice: Choice
    order: Floats
    changes: Floats

    @classmethod
    def of(cls, choice: Choice, changes: Mapping[int, Floats]) -> "Steps":
        """From the changes, each of shape (2, M), by position of the value."""
        known = sorted(changes)
        order = _order(np.array([choice.values[position] for position in known]))
        return cls(choice, order, np.stack([changes[position] for position in known]))

    def at(self, sizes: Sizes) -> Floats:
        """The changes at sizes (N, L, 3), shape (N, 2, M); between values that are known, in proportion."""
        kept = _order(sizes[:, self.choice.layers[0], COLUMNS[self.choice.component]])
        _, *shape = self.changes.shape
        columns = [np.interp(kept, self.order, column) for column in self.changes.reshape(len(self.order), -1).T]
        return np.stack(columns, axis=-1).reshape(len(kept), *shape)


def _order(kept: np.ndarray[Any, np.dtype[np.int64]]) -> Floats:
    """Values (N, K) of a choice as numbers in their ascending order, shape (N,): by size, then by KV groups."""
    order: Floats = kept.prod(axis=-1) + kept[..., 0] / 1024
    return order


@dataclass(frozen=True)
class Expansion:
    """What is known around one architecture.

    Attributes:
        centre: the architecture.
        value: its M metrics, on the scale predictors learn, shape (M,).
        steps: one entry a choice.
    """

    centre: Architecture
    value: Floats
    steps: Sequence[Steps]

    def at(self, architectures: Sequence[Architecture]) -> Floats:
        """Metrics of architectures to first order, and what the steps' own second order adds: shape (N, 2, M)."""
        sizes = sizes_of(architectures)
        start = np.stack([self.value, np.zeros_like(self.value)])
        total = np.tile(start, (len(sizes), 1, 1))
        for steps in self.steps:
            total += steps.at(sizes)
        return total


class Expanded(Predictor[PluginOptions]):
    """The expansion around the nearest centre, and a predictor of what is missing to the truth.

    What is missing are the mixed terms of steps in two choices. They grow with the steps as the curvature does, so
    first each metric's curvature is scaled to the pairs, never down; what then is left, the predictor learns.

    Args:
        expansions: at least one.
        remainder: a predictor that has not been fitted.
        shape: the dense model.
    """

    def __init__(self, expansions: Sequence[Expansion], remainder: Predictor[Any], shape: ModelShape) -> None:
        super().__init__(PluginOptions(), shape, 0)
        self._expansions, self._remainder = expansions, remainder

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Scale the curvature, and learn the remainder."""
        first, second = self._parts(architectures)
        missing, squares = ((targets - first) * second).sum(axis=0), (second**2).sum(axis=0)
        self._scale = np.maximum(np.divide(missing, squares, out=np.ones_like(squares), where=squares > 0), 1.0)
        self._remainder.fit(architectures, targets - first - self._scale * second)

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """The expansion and the remainder; the deviation is the remainder's."""
        first, second = self._parts(architectures)
        mean, std = self._remainder.predict(architectures)
        return Prediction(first + self._scale * second + mean, std)

    def _parts(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Metrics to first order and their curvature, by the nearest centre, each of shape (N, M)."""
        centres = [expansion.centre for expansion in self._expansions]
        nearest = distances(architectures, centres, self.shape).argmin(axis=1)
        by_centre = np.stack([expansion.at(architectures) for expansion in self._expansions])
        found = by_centre[nearest, np.arange(len(architectures))]
        return found[:, 0], found[:, 1]
