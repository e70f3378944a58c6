"""Taylor expansions of the metrics around measured architectures, with a regression for the remainder.

From pairs alone a regression learns the joint effect of some fifty choices. Around an expansion point whose local
sensitivities have been estimated (:mod:`prunecast.models.sensitivity`) the effect of each single choice is known to
second order, so only the mixed terms are left to learn.

Notation:
    x       an architecture, p an expansion point; x_c the value that choice c takes in x
    f(p)    the M measured metrics of p, on the scale predictors learn, shape (M,)
    a_c(v)  first-order change of the metrics when choice c alone takes value v, shape (M,)
    b_c(v)  what the second order adds to it, shape (M,)
    s       one scale of the curvature for each metric, at least 1, shape (M,)

    f(x) = f(p) + sum_c a_c(x_c) + s * sum_c b_c(x_c) + remainder(x)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Floats, Sizes, sizes_of
from prunecast.architecture.choices import Choice, gone_layers, is_idle, values_in
from prunecast.architecture.encodings import distances
from prunecast.architecture.shape import ModelShape
from prunecast.plugins.interfaces import PluginOptions, Prediction, Predictor


@dataclass(frozen=True)
class ChoiceSensitivity:
    """Changes of the metrics when one choice alone takes another value: a_c and b_c at G values.

    Attributes:
        choice: the choice.
        order: the G values as ascending numbers, shape (G,).
        changes: first-order changes and second-order terms, shape (G, 2, M); zero for the value of the expansion point.
    """

    choice: Choice
    order: Floats
    changes: Floats

    @classmethod
    def of(cls, choice: Choice, changes: Mapping[int, Floats]) -> "ChoiceSensitivity":
        """From the changes, each of shape (2, M), by position of the value."""
        known = sorted(changes)
        order = _order(np.array([choice.values[position] for position in known]))
        return cls(choice, order, np.stack([changes[position] for position in known]))

    def at(self, sizes: Sizes, gone: NDArray[np.bool_]) -> Floats:
        """The changes at sizes (N, L, 3), shape (N, 2, M); interpolated linearly between known values.

        Zero where all layers of the choice are ``gone``, shape (N, L): the change of the whole layers has it all.
        """
        kept = _order(values_in(self.choice, sizes, gone))
        _, *shape = self.changes.shape
        columns = [np.interp(kept, self.order, column) for column in self.changes.reshape(len(self.order), -1).T]
        changes = np.stack(columns, axis=-1).reshape(len(kept), *shape)
        changes[is_idle(self.choice, gone)] = 0
        return changes


def _order(kept: np.ndarray[Any, np.dtype[np.int64]]) -> Floats:
    """Values (N, K) of a choice as numbers that ascend by size, then by KV groups: shape (N,)."""
    order: Floats = kept.prod(axis=-1) + kept[..., 0] / 1024
    return order


@dataclass(frozen=True)
class TaylorExpansion:
    """The metrics around one expansion point.

    Attributes:
        point: the expansion point.
        value: its metrics f(p), shape (M,).
        sensitivities: one entry a choice.
    """

    point: Architecture
    value: Floats
    sensitivities: Sequence[ChoiceSensitivity]

    def at(self, architectures: Sequence[Architecture]) -> Floats:
        """Metrics to first order, and the separable second-order terms: shape (N, 2, M)."""
        sizes = sizes_of(architectures)
        gone = gone_layers([each.choice for each in self.sensitivities], sizes)
        start = np.stack([self.value, np.zeros_like(self.value)])
        total = np.tile(start, (len(sizes), 1, 1))
        for sensitivity in self.sensitivities:
            total += sensitivity.at(sizes, gone)
        return total


class ExpandedPredictor(Predictor[PluginOptions]):
    """The Taylor expansion around the nearest expansion point, and a predictor of the remainder.

    The remainder consists of the mixed terms. They grow with the distance as the curvature does, so the curvature of
    each metric is first scaled to the measured architectures, never down; the predictor learns the rest.

    Args:
        expansions: at least one.
        remainder: a predictor that has not been fitted.
        shape: the dense model.
    """

    def __init__(self, expansions: Sequence[TaylorExpansion], remainder: Predictor[Any], shape: ModelShape) -> None:
        super().__init__(PluginOptions(), shape, 0)
        self._expansions, self._remainder = expansions, remainder

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Scale the curvature, and fit the remainder."""
        first, second = self._parts(architectures)
        missing, squares = ((targets - first) * second).sum(axis=0), (second**2).sum(axis=0)
        self._scale = np.maximum(np.divide(missing, squares, out=np.ones_like(squares), where=squares > 0), 1.0)
        self._remainder.fit(architectures, targets - first - self._scale * second)

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Sum of expansion and remainder; the standard deviation is that of the remainder."""
        first, second = self._parts(architectures)
        mean, std = self._remainder.predict(architectures)
        return Prediction(first + self._scale * second + mean, std)

    def _parts(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Metrics to first order and their curvature, by the nearest expansion point, each of shape (N, M)."""
        points = [expansion.point for expansion in self._expansions]
        nearest = distances(architectures, points, self.shape).argmin(axis=1)
        by_point = np.stack([expansion.at(architectures) for expansion in self._expansions])
        found = by_point[nearest, np.arange(len(architectures))]
        return found[:, 0], found[:, 1]
