"""The forecast of a spec: what its search would find, predicted from the registry alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from prunecast.architecture.shape import ModelShape
from prunecast.compare.built import BuiltBaseline
from prunecast.errors import ChangedError, PrunecastError, RegistryError, SpecError
from prunecast.keys import canonical_json
from prunecast.measure.setup import Setup, place_of_model
from prunecast.models.described import described
from prunecast.models.source import resolve_source
from prunecast.plugins.bos import with_settled_bos
from prunecast.plugins.exporter import Limits
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import SearchProblem
from prunecast.predict.fitted import fit
from prunecast.predict.from_registry import FEWEST_PAIRS, Predicted, basis_of, metric_names, predictions
from prunecast.problem.limits import limits_of
from prunecast.problem.measured import Measured
from prunecast.problem.problem import Problem
from prunecast.registry import Registry
from prunecast.registry.labels import described as labelled
from prunecast.registry.queries.pairs import Pairs, find_pairs
from prunecast.registry.queries.series import Series, find_series
from prunecast.spec.model import PluginUse, Spec

PROPOSALS = 5
"""Architectures that a spec's search is asked for."""


def refuse_options(given: Sequence[str]) -> None:
    """Raise SpecError if options of predictions of an architecture are given for a spec, which has its own."""
    if given:
        names = " and ".join(given)
        raise SpecError([f"predict: leave out {names}: the spec decides that, such options are for an architecture"])


def predict_spec(registry: Registry, host: PluginHost, spec: Spec) -> tuple[list[Predicted], list[str]]:
    """Predict the result of a spec: its baselines, and the best its search finds within the budget.

    Its predictor learns from all pairs of its model under its pruner and its evaluators. Pairs of another model, text
    or code of the same description are told apart if model and data are on this machine. Of its baselines, those are
    predicted that are built, not searched, and compensated as these pairs are, at the parameter count of the best.

    Returns:
        The predictions; a line about the pairs behind them and, where there is something to say, one about what could
        not be compared, one about baselines that are left out and one about limits of speeds.

    Raises:
        ChangedError: there are pairs of that description, but from another model, text or code.
        RegistryError: there are too few such pairs.
        BudgetError: no architecture of its space meets its budget.
    """
    pairs, notes = _pairs_of(registry, spec, host)
    measured = Measured.of_pairs(pairs, spec.objective)
    limits = _limits(spec, host, pairs.series.shape)
    problem = Problem.of(spec, host, pairs.series.shape).within(limits).minimising(measured.objective)
    fitted = fit(problem, measured)
    asked = SearchProblem(problem.space, problem.budget, fitted.score, np.random.default_rng(problem.seed))
    proposals = spec.searcher.instance(host).search(asked, PROPOSALS)
    shape, choices = problem.shape, problem.space.choices
    (size,) = shape.count(proposals[:1] or [shape.dense]).tolist()
    predictable, budget = _predictable(spec), problem.budget.at_most(size)
    baselines = [(each.name, each.build(choices, budget)) for each in predictable]
    named = [*baselines, *(("found", proposal) for proposal in proposals)]
    said = [basis_of(pairs), *notes, *_left_out(spec, predictable), *_not_counted(spec)]
    return predictions(fitted, measured, pairs, named), said


def _limits(spec: Spec, host: PluginHost, shape: ModelShape) -> tuple[Limits, ...]:
    """Limits of the spec's targets, for which the config of its model is read; none if they can express everything."""
    if not spec.limiting_targets:
        return ()
    place = place_of_model(spec.paths, spec.model.source)
    source = resolve_source(place, spec.model.revision, spec.model.trust_remote_code)
    return limits_of(spec, host, *described(source, spec.families), shape)


def _predictable(spec: Spec) -> list[BuiltBaseline]:
    """Baselines of a spec that are built, and compensated as its pairs are."""
    options: Any = spec.pruner.options
    plain = options.compensate.method == "none"
    return [each for each in map(BuiltBaseline.named, spec.baselines) if each and (each.compensated or plain)]


def _left_out(spec: Spec, predictable: Sequence[BuiltBaseline]) -> list[str]:
    """One line about the baselines that are not predicted; none if all are."""
    predicted = {each.name for each in predictable}
    others = [name for name in spec.baselines if name not in predicted]
    reason = "these pairs say nothing about other compensation, nor about what another search would find"
    return [f"left out: {', '.join(others)}; {reason}"] if others else []


def _not_counted(spec: Spec) -> list[str]:
    """One line about limits of speeds; none if there are none."""
    limited = " and ".join(spec.budget.speeds)
    return [f"{limited} of the budget not counted; only a run measures the times of components"] if limited else []


def _pairs_of(registry: Registry, spec: Spec, host: PluginHost) -> tuple[Pairs, list[str]]:
    """Pairs of a spec's model under its pruner and evaluators, and a line if these could not be compared in full."""
    described_so = _series_of(registry, spec)
    try:
        settings = [named.setting for named in Setup(spec, host).evaluators]
    except PrunecastError as error:
        notes = [f"not compared with the model, data and code of these pairs, as not at hand: {error}"]
        return _most(registry, spec, described_so), notes
    keys = {(each.model.fingerprint, each.pruner.key, each.evaluator.key) for each in settings}
    same = [
        series
        for series in described_so
        if (series.model_key, series.pruner_key, series.columns[0].evaluator_key) in keys
    ]
    if changed := [series for series in described_so if series.columns[0].metric not in metric_names(same)]:
        raise ChangedError(
            f"{registry.path}: its pairs of {changed[0].columns[0].metric} of {changed[0]} were made from another "
            "model, text or code than there is now; run the spec to measure anew"
        )
    return _most(registry, spec, same), []


def _series_of(registry: Registry, spec: Spec) -> list[Series]:
    """Series of one metric each, by the names and options of a spec's pruner and evaluators."""
    model = spec.model.source
    return [
        series
        for name in metric_names(find_series(registry, model))
        for series in find_series(registry, model, [name])
        if _is_of(series, spec)
    ]


def _most(registry: Registry, spec: Spec, matching: Sequence[Series]) -> Pairs:
    """Pairs of the pruner among several series that has most. Raises RegistryError if they are too few."""
    metrics = metric_names(matching)
    used = [series.columns[0].evaluator_key for series in matching]
    pruners = dict.fromkeys((series.model_key, series.pruner_key) for series in matching)
    candidates = [find_pairs(registry, model, metrics, pruner, evaluators=used) for model, pruner in pruners]
    best = max(candidates, key=len, default=None)
    if best is None or len(best) < FEWEST_PAIRS:
        pruner = labelled(*_identity(spec.pruner, needed=False))
        raise RegistryError(
            f"{registry.path}: has too few pairs of {spec.model.source} under {pruner} "
            "and the spec's evaluators; run the spec to measure some"
        )
    return best


def _is_of(series: Series, spec: Spec) -> bool:
    """True if a series of one metric was measured by the pruner and one of the evaluators of a spec."""
    needed, column = series.shape.bos, series.columns[0]
    pruner, evaluator = (
        (series.pruner, series.pruner_options_json),
        (column.evaluator, column.evaluator_options_json),
    )
    return pruner == _identity(spec.pruner, needed) and evaluator in [_identity(e, needed) for e in spec.evaluators]


def _identity(use: PluginUse, needed: bool) -> tuple[str, str]:
    """Name and options as the registry keeps them for a model that needs a beginning-of-sequence token or not."""
    return use.use, canonical_json(with_settled_bos(use.options, needed).material_options())
