"""Appraising a predictor on the pairs of a registry, without any model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prunecast.errors import RegistryError, SpecError
from prunecast.interfaces import Metric, PluginOptions
from prunecast.pipeline.guard import instance
from prunecast.pipeline.objective import Objective
from prunecast.pipeline.quality import CURVE, QualityCard, judge
from prunecast.plugins import PluginHost
from prunecast.registry import Registry


def appraise(
    registry: Registry,
    host: PluginHost,
    predictor: str,
    options: Mapping[str, Any],
    model: str,
    metrics: Sequence[str],
    pruner: str | None,
    seed: int,
) -> QualityCard:
    """Quality card of a predictor on all pairs of a model that have all of the metrics.

    The splits depend on ``seed`` and the pairs alone: every predictor is judged on the same ones.

    Args:
        registry: where the pairs are.
        host: where the predictor comes from.
        predictor: its name.
        options: its options, as a spec writes them.
        model: the model the pairs are of: source, or first digits of its fingerprint.
        metrics: what is predicted, at least one.
        pruner: only pairs of the pruner with this name or content key; else those of the one with most.
        seed: of the splits and of the predictor.

    Raises:
        RegistryError: no such model or metric, or too few pairs.
        SpecError: the predictor has no such options.
    """
    registered = host.find("predictor", predictor)
    try:
        validated: PluginOptions = registered.load().options_model.model_validate(dict(options))
    except ValueError as error:
        raise SpecError([f"--set: {predictor}: {' '.join(str(error).split())}"]) from error
    pairs = registry.pairs(model, metrics, pruner)
    objective = Objective.of([Metric(c.metric, c.direction, c.unit, c.scale) for c in pairs.series.columns], None)
    measured = {a: {m: row[m] for m in metrics} for a, row in zip(pairs.architectures, pairs.rows, strict=True)}
    rng = np.random.default_rng(seed)
    card = judge(
        predictor, lambda: instance(registered, validated, pairs.series.shape, seed), objective, measured, rng, CURVE
    )
    if card is None:
        raise RegistryError(f"{len(measured)} pairs of {pairs.series} are too few to hold any out; measure more")
    return card
