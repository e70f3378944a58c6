"""Appraising a predictor on the pairs of a registry, without any model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.formats.imported import checked
from prunecast.errors import RegistryError, SpecError
from prunecast.plugins.guard import instance, predictor_by_default
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import Metric, PluginOptions, Predictor
from prunecast.predict.fitted import Fitted
from prunecast.predict.quality import CURVE, QualityCard, judge
from prunecast.predict.transfer import Prior
from prunecast.predict.warm_start import WarmStart, judge_transfer, source_of
from prunecast.problem.objective import Objective
from prunecast.registry import Registry
from prunecast.registry.queries.pairs import Pairs, find_pairs
from prunecast.registry.queries.series import Series, find_series

FEWEST_PAIRS = 10
"""Pairs a predictor is fitted on, at least."""


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
    pairs = find_pairs(registry, model, metrics, pruner)
    objective = Objective.of([Metric(c.metric, c.direction, c.unit, c.scale) for c in pairs.series.columns], None)
    measured = {a: {m: row[m] for m in metrics} for a, row in zip(pairs.architectures, pairs.rows, strict=True)}
    rng = np.random.default_rng(seed)
    card = judge(
        predictor, lambda: instance(registered, validated, pairs.series.shape, seed), objective, measured, rng, CURVE
    )
    if card is None:
        raise RegistryError(f"{len(measured)} pairs of {pairs.series} are too few to hold any out; measure more")
    return card


@dataclass(frozen=True)
class Predicted:
    """A metric of an architecture, predicted.

    Attributes:
        name: ``asked for``, ``found``, or the name of a baseline.
        architecture: what it keeps.
        parameters: all of them.
        metric: what is predicted.
        value: predicted value.
        low, high: one standard deviation below and above it, on the scale predictors learn; in the metric's unit.
        measured: what the registry has; None if it was not measured.
        pairs: how many the predictor learnt from.
    """

    name: str
    architecture: Architecture
    parameters: int
    metric: str
    value: float
    low: float
    high: float
    measured: float | None
    pairs: int

    @property
    def std(self) -> float:
        """Standard deviation in the metric's unit: half the way from ``low`` to ``high``."""
        return (self.high - self.low) / 2

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "name": self.name,
            "parameters": self.parameters,
            "metric": self.metric,
            "predicted": self.value,
            "std": self.std,
            "low": self.low,
            "high": self.high,
            "measured": self.measured,
            "pairs": self.pairs,
            "architecture": str(self.architecture),
        }


def predict_architecture(
    registry: Registry,
    host: PluginHost,
    architecture: Architecture,
    model: str,
    metrics: Sequence[str],
    predictor: str,
    pruner: str | None,
    seed: int,
) -> tuple[list[Predicted], list[str]]:
    """Predict metrics of an architecture, each from all pairs that have it.

    Args:
        registry: where the pairs are.
        host: where the predictor comes from.
        architecture: what to predict.
        model: the model it is of: source, or first digits of its fingerprint.
        metrics: what to predict; empty: every metric of the model with enough pairs of the pruner.
        predictor: name of a predictor plugin; it has its default options.
        pruner: only pairs of the pruner with this name or content key; else those of the one with most.
        seed: of the predictor.

    Returns:
        The predictions, and a line about what each metric was learnt from.

    Raises:
        PluginError: there is no such predictor, or it has an option without a default.
        RegistryError: no such model or metric, or too few pairs.
        ConfigurationError: the architecture is none of the model.
    """
    new_predictor = predictor_by_default(host, predictor)
    known = [each for each in find_series(registry, model) if pruner in (None, each.pruner, each.pruner_key)]
    names = list(metrics) or metric_names(known)
    found, basis = [], []
    for metric in names:
        pairs = find_pairs(registry, model, [metric], pruner)
        if len(pairs.rows) < FEWEST_PAIRS:
            if metrics:
                raise RegistryError(f"{metric}: {len(pairs.rows)} pairs of {pairs.series} are too few to learn from")
            continue
        checked(architecture, pairs.series.shape, "the architecture")
        fitted = fitted_on(pairs, new_predictor(pairs.series.shape, seed), None)
        found += predictions(fitted, pairs, [("asked for", architecture)])
        basis.append(basis_of(pairs))
    if not found:
        under = "" if pruner is None else f" of pruner {pruner}"
        raise RegistryError(
            f"{registry.path}: {model} has no metric with {FEWEST_PAIRS} pairs{under}; measure some with a spec"
        )
    return found, basis


def metric_names(found: Sequence[Series]) -> list[str]:
    return list(dict.fromkeys(column.metric for series in found for column in series.columns))


def fitted_on(pairs: Pairs, predictor: Predictor[Any], weights: dict[str, float] | None) -> Fitted:
    metrics = [Metric(c.metric, c.direction, c.unit, c.scale) for c in pairs.series.columns]
    predictor.fit(pairs.architectures, pairs.targets)
    return Fitted(predictor, Objective.of(metrics, weights))


def predictions(fitted: Fitted, pairs: Pairs, named: Sequence[tuple[str, Architecture]]) -> list[Predicted]:
    architectures = [architecture for _, architecture in named]
    mean, std = fitted.predictor.predict(architectures)
    values, lows, highs = (fitted.objective.metrics_of(targets) for targets in (mean, mean - std, mean + std))
    parameters = pairs.series.shape.count(architectures).tolist()
    known = dict(zip(pairs.architectures, pairs.rows, strict=True))
    return [
        Predicted(
            name,
            architecture,
            parameters[place],
            metric,
            values[place][metric],
            lows[place][metric],
            highs[place][metric],
            known.get(architecture, {}).get(metric),
            len(pairs.rows),
        )
        for place, (name, architecture) in enumerate(named)
        for metric in pairs.metrics
    ]


def basis_of(pairs: Pairs) -> str:
    columns = pairs.series.columns
    by = (f"{each.metric} by {each.evaluator_text}" for each in columns)
    return f"learnt from {len(pairs.rows)} pairs of {pairs.series}: {'; '.join(by)}"


def transfer_between(host: PluginHost, predictor: str, known: Pairs, own: Pairs, seed: int) -> WarmStart:
    """How well pairs of one model, of one metric, rank those of another.

    Args:
        host: where the predictor comes from.
        predictor: its name; it has its default options.
        known: pairs to learn from.
        own: pairs of the other model.
        seed: of predictors and draws.

    Raises:
        PluginError: there is no such predictor, or it has an option without a default.
        RegistryError: the dense model of ``known`` was not measured.
    """
    new_predictor = predictor_by_default(host, predictor)
    prior = Prior(lambda shape: new_predictor(shape, seed), own.series.shape, [source_of(known)])
    sign = 1.0 if own.series.columns[0].direction == "minimize" else -1.0
    ranked = [place for place, each in enumerate(own.architectures) if each != own.series.shape.dense]
    return judge_transfer(
        prior,
        [own.architectures[place] for place in ranked],
        own.targets[ranked],
        lambda targets: sign * targets[:, 0],
        seed,
        np.random.default_rng(seed),
    )
