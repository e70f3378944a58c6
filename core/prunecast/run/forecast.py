"""Prediction from the registry alone: no model is loaded, no text read, and torch not even imported."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from prunecast.architecture.budget import Budget
from prunecast.compare.uniform import UniformCut, uniform
from prunecast.errors import RegistryError
from prunecast.keys import canonical_json
from prunecast.plugins.guard import plugin_of
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import SearchProblem
from prunecast.predict.from_registry import FEWEST_PAIRS, Predicted, basis_of, fitted_on, metric_names, predictions
from prunecast.registry import Registry
from prunecast.registry.queries.pairs import Pairs, find_pairs
from prunecast.registry.queries.series import described, find_series
from prunecast.spec.model import PluginUse, Spec

PROPOSALS = 5
"""Architectures that a spec's search is asked for."""


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
    fitted = fitted_on(pairs, plugin_of(host, spec.predictor, shape, spec.seed), spec.objective)
    space = plugin_of(host, spec.space, shape)
    budget = Budget.of(shape, spec.budget)
    budget.check(space.choices)
    problem = SearchProblem(space, budget, fitted.score, np.random.default_rng(spec.seed))
    proposals = plugin_of(host, spec.searcher).search(problem, PROPOSALS)
    (size,) = shape.count(proposals[:1] or [shape.dense]).tolist()
    cuts = _cuts(spec)
    baselines = [(cut.name, uniform(shape, space.choices, size, attention=cut.attention)) for cut in cuts]
    named = [*baselines, *(("found", proposal) for proposal in proposals)]
    return predictions(fitted, pairs, named), [basis_of(pairs), *_left_out(spec, cuts)]


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
    names = metric_names(find_series(registry, model))
    matching = [
        series
        for name in names
        for series in find_series(registry, model, [name])
        if (series.pruner, series.pruner_options_json) == pruner
        and (series.columns[0].evaluator, series.columns[0].evaluator_options_json) in evaluators
    ]
    metrics = metric_names(matching)
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
