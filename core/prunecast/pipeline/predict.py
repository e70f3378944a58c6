"""Prediction from the registry alone: no model is loaded, no text read, and torch not even imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecast.architecture import Architecture
from prunecast.budget import Budget
from prunecast.errors import RegistryError
from prunecast.importers.imported import checked
from prunecast.interfaces import Metric, Predictor, SearchProblem
from prunecast.pipeline.baselines import UniformCut, uniform
from prunecast.pipeline.fit import Fitted
from prunecast.pipeline.guard import plugin_of, predictor_by_default
from prunecast.pipeline.objective import Objective
from prunecast.plugins import PluginHost
from prunecast.registry import Registry
from prunecast.registry.keys import canonical_json
from prunecast.registry.pairs import Pairs, find_pairs
from prunecast.registry.series import Series, described, find_series
from prunecast.spec.model import PluginUse, Spec

FEWEST_PAIRS = 10
"""Pairs a predictor is fitted on, at least."""

PROPOSALS = 5
"""Architectures that a spec's search is asked for."""


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
    names = list(metrics) or _metric_names(known)
    found, basis = [], []
    for metric in names:
        pairs = find_pairs(registry, model, [metric], pruner)
        if len(pairs.rows) < FEWEST_PAIRS:
            if metrics:
                raise RegistryError(f"{metric}: {len(pairs.rows)} pairs of {pairs.series} are too few to learn from")
            continue
        checked(architecture, pairs.series.shape, "the architecture")
        fitted = _fit(pairs, new_predictor(pairs.series.shape, seed), None)
        found += _predicted(fitted, pairs, [("asked for", architecture)])
        basis.append(_basis(pairs))
    if not found:
        under = "" if pruner is None else f" of pruner {pruner}"
        raise RegistryError(
            f"{registry.path}: {model} has no metric with {FEWEST_PAIRS} pairs{under}; measure some with a spec"
        )
    return found, basis


def predict_spec(registry: Registry, host: PluginHost, spec: Spec) -> tuple[list[Predicted], list[str]]:
    """Predict what a spec would come to: its baselines, and the best its search finds within the budget.

    Its predictor learns from all pairs of its model under its pruner and its evaluators; data are not looked at, so a
    calibration or evaluation text that has changed since they were measured is not noticed. Of its baselines, uniform
    cuts are predicted that are compensated as these pairs are, at the parameter count of the best.

    Returns:
        The predictions; a line about what they were learnt from and, where baselines are left out, one about those.

    Raises:
        RegistryError: there are too few such pairs.
        BudgetError: no architecture of its space meets its budget.
    """
    pairs = _pairs_of(registry, spec)
    shape = pairs.series.shape
    fitted = _fit(pairs, plugin_of(host, spec.predictor, shape, spec.seed), spec.objective)
    space = plugin_of(host, spec.space, shape)
    budget = Budget.of(shape, spec.budget)
    budget.check(space.choices)
    problem = SearchProblem(space, budget, fitted.score, np.random.default_rng(spec.seed))
    proposals = plugin_of(host, spec.searcher).search(problem, PROPOSALS)
    (size,) = shape.count(proposals[:1] or [shape.dense]).tolist()
    cuts = _cuts(spec)
    baselines = [(cut.name, uniform(shape, space.choices, size, attention=cut.attention)) for cut in cuts]
    named = [*baselines, *(("found", proposal) for proposal in proposals)]
    return _predicted(fitted, pairs, named), [_basis(pairs), *_left_out(spec, cuts)]


def _cuts(spec: Spec) -> list[UniformCut]:
    """The uniform cuts among a spec's baselines that are compensated as its pairs are."""
    options: Any = spec.pruner.options
    plain = options.compensate.method == "none"
    return [cut for cut in map(UniformCut.named, spec.baselines) if cut and (cut.compensated or plain)]


def _left_out(spec: Spec, cuts: Sequence[UniformCut]) -> list[str]:
    """One line about the baselines that are not predicted; none if all are."""
    predicted = {cut.name for cut in cuts}
    others = [name for name in spec.baselines if name not in predicted]
    reason = "pairs tell neither of cuts that are compensated otherwise nor of what a search would find"
    return [f"left out: {', '.join(others)}; {reason}"] if others else []


def _pairs_of(registry: Registry, spec: Spec) -> Pairs:
    """Pairs of a spec's model, by the names and options of its pruner and evaluators."""
    model, pruner, evaluators = spec.model.source, _identity(spec.pruner), [_identity(use) for use in spec.evaluators]
    names = _metric_names(find_series(registry, model))
    matching = [
        series
        for name in names
        for series in find_series(registry, model, [name])
        if (series.pruner, series.pruner_options_json) == pruner
        and (series.columns[0].evaluator, series.columns[0].evaluator_options_json) in evaluators
    ]
    metrics = _metric_names(matching)
    used = [series.columns[0].evaluator_key for series in matching]
    keys = dict.fromkeys(series.pruner_key for series in matching)
    candidates = [find_pairs(registry, model, metrics, key, evaluators=used) for key in keys]
    best = max(candidates, key=lambda pairs: len(pairs.rows), default=None)
    if best is None or len(best.rows) < FEWEST_PAIRS:
        raise RegistryError(
            f"{registry.path}: has too few pairs of {model} under {described(*pruner)} and the spec's evaluators; "
            "run the spec to measure some"
        )
    return best


def _identity(use: PluginUse) -> tuple[str, str]:
    """Name and options as the registry files them."""
    return use.use, canonical_json(use.options.material_options())


def _metric_names(found: Sequence[Series]) -> list[str]:
    return list(dict.fromkeys(column.metric for series in found for column in series.columns))


def _fit(pairs: Pairs, predictor: Predictor[Any], weights: dict[str, float] | None) -> Fitted:
    metrics = [Metric(c.metric, c.direction, c.unit, c.scale) for c in pairs.series.columns]
    predictor.fit(pairs.architectures, pairs.targets)
    return Fitted(predictor, Objective.of(metrics, weights))


def _predicted(fitted: Fitted, pairs: Pairs, named: Sequence[tuple[str, Architecture]]) -> list[Predicted]:
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


def _basis(pairs: Pairs) -> str:
    columns = pairs.series.columns
    by = (f"{each.metric} by {each.evaluator_text}" for each in columns)
    return f"learnt from {len(pairs.rows)} pairs of {pairs.series}: {'; '.join(by)}"
