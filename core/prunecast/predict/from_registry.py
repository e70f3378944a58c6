"""Predictions and quality cards from the registry alone: no model is loaded, no text read, torch is not imported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.formats.imported import checked
from prunecast.errors import RegistryError, SpecError
from prunecast.plugins.guard import instance, predictor_by_default
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import PluginOptions
from prunecast.predict.fitted import Fitted
from prunecast.predict.quality import CURVE, QualityCard, evaluate_predictor
from prunecast.predict.transfer import Prior
from prunecast.predict.warm_start import WarmStart, evaluate_transfer, source_of
from prunecast.problem.measured import Measured
from prunecast.registry import Registry
from prunecast.registry.queries.pairs import Pairs, find_pairs
from prunecast.registry.queries.series import Series, find_series
from prunecast.text import counted

FEWEST_PAIRS = 10
"""Pairs a predictor is fitted on, at least."""


@dataclass(frozen=True)
class Predicted:
    """A predicted metric of an architecture.

    Attributes:
        name: ``asked for``, ``found``, or the name of a baseline.
        architecture: what it keeps.
        parameters: all parameters, embeddings included.
        metric: name of the metric.
        value: predicted value.
        low, high: one standard deviation below and above it, on the scale predictors learn; in the metric's unit.
        measured: the measured value in the registry; None if it was not measured.
        pairs: number of pairs that the predictor was fitted on.
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
    """Predict metrics of an architecture, each metric from all pairs that contain it.

    Args:
        registry: where the pairs are.
        host: where the predictor comes from.
        architecture: what to predict.
        model: the model it is of: source, or first digits of its fingerprint.
        metrics: what to predict; empty: every metric of the model with enough pairs of the pruner.
        predictor: name of a predictor plugin; it has its default options.
        pruner: name or content key of the pruner; by default the pruner with the most pairs.
        seed: of the predictor.

    Returns:
        The predictions, and a line about the pairs behind each metric.

    Raises:
        PluginError: there is no such predictor, or it has an option without a default.
        RegistryError: no such model or metric, or too few pairs.
        ConfigurationError: the architecture is not one of the model.
    """
    new_predictor = predictor_by_default(host, predictor)
    known = [each for each in find_series(registry, model) if each.is_pruned_by(pruner)]
    found, basis = [], []
    for metric in list(metrics) or metric_names(known):
        pairs = find_pairs(registry, model, [metric], pruner)
        if len(pairs) < FEWEST_PAIRS:
            if metrics:
                raise RegistryError(f"{metric}: {counted(len(pairs), 'pair')} of {pairs.series}: too few to learn from")
            continue
        checked(architecture, pairs.series.shape, "the architecture")
        measured = Measured.of_pairs(pairs)
        fitted = Fitted.on(measured, new_predictor(pairs.series.shape, seed))
        found += predictions(fitted, measured, pairs, [("asked for", architecture)])
        basis.append(basis_of(pairs))
    if not found:
        under = "" if pruner is None else f" of pruner {pruner}"
        raise RegistryError(
            f"{registry.path}: {model} has no metric with {FEWEST_PAIRS} pairs{under}; measure some with a spec"
        )
    return found, basis


def quality_card(
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

    The splits depend on ``seed`` and the pairs alone: every predictor is evaluated on the same ones.

    Args:
        registry: where the pairs are.
        host: where the predictor comes from.
        predictor: its name.
        options: its options, as a spec writes them.
        model: the model the pairs are of: source, or first digits of its fingerprint.
        metrics: what is predicted, at least one.
        pruner: name or content key of the pruner; by default the pruner with the most pairs.
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
    shape, rng = pairs.series.shape, np.random.default_rng(seed)
    card = evaluate_predictor(
        predictor, lambda: instance(registered, validated, shape, seed), Measured.of_pairs(pairs), rng, CURVE
    )
    if card is None:
        raise RegistryError(f"{counted(len(pairs), 'pair')} of {pairs.series}: too few to hold any out; measure more")
    return card


def transfer_between(host: PluginHost, predictor: str, known: Pairs, own: Pairs, seed: int) -> WarmStart:
    """Quality of ranking one model by pairs of another, of one metric.

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
    pruned = Measured.of_pairs(own).without([own.series.shape.dense])
    return evaluate_transfer(
        prior, pruned.architectures, pruned.targets, pruned.objective.score, np.random.default_rng(seed)
    )


def metric_names(found: Sequence[Series]) -> list[str]:
    """Names of the metrics of several series, each once."""
    return list(dict.fromkeys(column.metric for series in found for column in series.columns))


def predictions(
    fitted: Fitted, measured: Measured, pairs: Pairs, named: Sequence[tuple[str, Architecture]]
) -> list[Predicted]:
    """One prediction for each architecture and metric, with the interval of one standard deviation around it.

    Args:
        fitted: predictor fitted on ``measured``.
        measured: the pairs as training data.
        pairs: the same pairs, with their model and metric names.
        named: (name for the reader, architecture).
    """
    architectures = [architecture for _, architecture in named]
    mean, std = fitted.predictor.predict(architectures)
    values, lows, highs = (fitted.objective.metrics_of(targets) for targets in (mean, mean - std, mean + std))
    parameters = pairs.series.shape.count(architectures).tolist()
    return [
        Predicted(
            name=name,
            architecture=architecture,
            parameters=parameters[row],
            metric=metric,
            value=values[row][metric],
            low=lows[row][metric],
            high=highs[row][metric],
            measured=measured.metrics.get(architecture, {}).get(metric),
            pairs=len(measured),
        )
        for row, (name, architecture) in enumerate(named)
        for metric in pairs.names
    ]


def basis_of(pairs: Pairs) -> str:
    """One line about the pairs that a prediction was learned from, and about others that match as well."""
    by = (f"{each.metric} by {each.evaluator_text}" for each in pairs.series.columns)
    line = f"learned from {counted(len(pairs), 'pair')} of {pairs.series}: {'; '.join(by)}"
    if not pairs.others:
        return line
    others = "; ".join(f"{count} of {series} (pruner {series.pruner_key[:8]})" for series, count in pairs.others)
    return f"{line}. Not from other pairs that match: {others}; choose with --pruner KEY"
