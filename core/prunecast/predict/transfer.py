"""Transfer: pairs of other models as prior knowledge for a model of which little has been measured.

Notation: N architectures, M targets, L layers. All models are mapped to one reference model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.encodings import BINS, overlaps, relative_depth
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.plugins.interfaces import PluginOptions, Prediction, Predictor

STEPS = 120
"""KV groups, heads per group and channels of a layer of the reference model: divisible by most head counts."""


OWN_WEIGHT = 4
"""Weight of an own pair against a pair of another model, where a predictor learns from both."""

OWN_ENOUGH = 10
"""Own pairs from which a predictor that learns from them alone counts as much as one that learns from all."""


@dataclass(frozen=True)
class Source:
    """Pairs of another model.

    Attributes:
        model: its name.
        shape: its sizes.
        architectures: N of them.
        lost: targets less those of its dense model, shape (N, M), on the scale predictors learn.
    """

    model: str
    shape: ModelShape
    architectures: Sequence[Architecture]
    lost: Floats


class Prior:
    """Prior knowledge from other models: a predictor of the loss of architectures relative to the dense model.

    Architectures of all models are mapped to the reference model (:func:`at_reference`), on which a predictor of any
    kind is fitted.

    Args:
        new_predictor: makes a predictor for the model of a shape.
        shape: the model.
        sources: pairs of other models, at least one, all with the same metrics.
    """

    def __init__(
        self, new_predictor: Callable[[ModelShape], Predictor[Any]], shape: ModelShape, sources: Sequence[Source]
    ) -> None:
        self.new_predictor, self.shape, self.sources = new_predictor, shape, sources

    @cached_property
    def architectures(self) -> list[Architecture]:
        """The architectures of all sources, of the reference model."""
        return [carried for source in self.sources for carried in at_reference(source.architectures, source.shape)]

    @cached_property
    def lost(self) -> Floats:
        """Their targets less those of the dense model each belongs to, shape (N, M)."""
        return np.concatenate([source.lost for source in self.sources])

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Loss of architectures relative to the dense model, predicted from the sources alone."""
        return self._fitted.predict(at_reference(architectures, self.shape))

    @cached_property
    def _fitted(self) -> Predictor[Any]:
        predictor = self.new_predictor(reference_shape(self.shape))
        predictor.fit(self.architectures, self.lost)
        return predictor


class Transferred(Predictor[PluginOptions]):
    """A predictor that begins with pairs of other models and is corrected by pairs of its own model.

    The sources' targets are brought to the scale of the own ones by a straight line, fitted from the prior's
    predictions of the own pairs to their measurements. One predictor then learns from both at the reference model,
    where an own pair counts :data:`OWN_WEIGHT` times, and another one from the own pairs alone. Their predictions are
    averaged, the second with the weight n / (n + :data:`OWN_ENOUGH`), n own pairs. Without a fit it returns the
    prior's prediction, relative to the dense model, which is enough to rank by.
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__(PluginOptions(), prior.shape, 0)  # the predictors inside have seeds of their own
        self._prior = prior
        self._weight = 0.0

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Fit on own pairs and on those of the sources."""
        slope, offset = _line(self._prior.predict(architectures).mean, targets)
        carried = at_reference(architectures, self.shape)
        self._joint, self._own = (
            self._prior.new_predictor(reference_shape(self.shape)),
            self._prior.new_predictor(self.shape),
        )
        self._joint.fit(
            [*self._prior.architectures, *carried * OWN_WEIGHT],
            np.concatenate([self._prior.lost * slope + offset, *[targets] * OWN_WEIGHT]),
        )
        self._own.fit(architectures, targets)
        self._weight = len(architectures) / (len(architectures) + OWN_ENOUGH)

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Weighted mean of both predictions and of their standard deviations: errors are assumed fully correlated."""
        if self._weight == 0:
            return self._prior.predict(architectures)
        joint = self._joint.predict(at_reference(architectures, self.shape))
        own = self._own.predict(architectures)
        return Prediction(*(a + self._weight * (b - a) for a, b in zip(joint, own, strict=True)))


def _line(predicted: Floats, measured: Floats) -> tuple[Floats, Floats]:
    """Slope and offset, each of shape (M,), of the least-squares line of every column.

    Slope 1 if the fit is degenerate (one pair, or equal predictions) or would invert the ranking.
    """
    centered = predicted - predicted.mean(axis=0)
    spread = (centered**2).sum(axis=0)
    slope = np.divide((centered * measured).sum(axis=0), spread, out=np.ones_like(spread), where=spread > 0)
    slope = np.where(slope > 0, slope, 1.0)
    return slope, measured.mean(axis=0) - slope * predicted.mean(axis=0)


def reference_shape(shape: ModelShape) -> ModelShape:
    """The reference model with attention and MLP in the proportions of ``shape`` at each relative depth.

    It has :data:`~prunecast.architecture.encodings.BINS` layers with :data:`STEPS` KV groups, heads per group and
    channels each.
    """
    whole = [
        (
            cost.attention.unit * sizes.kv_groups,
            cost.attention.head * sizes.query_heads,
            cost.mlp.unit * sizes.mlp_width,
        )
        for cost, sizes in zip(shape.layers, shape.dense.layers, strict=True)
    ]
    means = np.rint(overlaps(BINS, len(whole)) @ np.array(whole)).astype(np.int64).tolist()
    return replace(
        shape,
        dense=Architecture([(STEPS, STEPS, STEPS)] * BINS),
        layers=tuple(
            LayerCost(ComponentCost(base=0, unit=groups * STEPS, head=heads), ComponentCost(base=0, unit=mlp * STEPS))
            for groups, heads, mlp in means
        ),
    )


def at_reference(architectures: Sequence[Architecture], shape: ModelShape) -> list[Architecture]:
    """``architectures`` of a model as architectures of the reference model, by relative depth and kept fractions.

    Heads per group are the kept heads over the kept groups of a slice; everything is rounded to whole steps.
    """
    groups, heads, width = np.moveaxis(relative_depth(architectures, shape), -1, 0)
    per_group = np.divide(heads, groups, out=np.zeros_like(heads), where=groups > 0)
    steps = np.rint(np.stack([groups, per_group, width], axis=-1) * STEPS).astype(np.int64)
    return Architecture.from_sizes(steps)
