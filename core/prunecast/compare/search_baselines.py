"""Baselines that search without a predictor: every architecture they consider is measured.

Two of them get as many real evaluations as the run itself, the cost of its local sensitivities included, or as many as
the spec says (:func:`prunecast.spec.stages.baseline_evaluations`), under the same evaluators, at the parameter count of
the run's best. The one by the importance of layers measures one architecture a layer.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Indices, architectures_at, switch_levels
from prunecast.compare.depth import largest_indices, layer_columns, without_layers
from prunecast.errors import EvaluationError
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Metrics
from prunecast.problem.problem import Problem
from prunecast.search.initial_design import uniform_mlp_indices
from prunecast.spec.stages import SearchBaseline

Measure = Callable[[Sequence[Architecture]], Mapping[Architecture, Metrics]]
"""Measures those of the architectures that can be measured."""

OFFSPRING = 8
"""Mutated architectures a generation."""

MOST_SWITCHES = 3
"""Levels a mutation switches: the smaller of two draws from 1 to this, as in EvoPress."""

MOST_DRAWS = 50
"""Draws in a row without a new architecture, after which a space counts as exhausted."""


def search_by_measuring(
    name: SearchBaseline, problem: Problem, parameters: int, evaluations: int, measure: Measure
) -> Architecture:
    """The best architecture that a search finds with real evaluations only.

    ``random-search`` measures random proposals of the space. ``evolution`` is EvoPress (arXiv 2410.14649, algorithm 1)
    with one survivor: starting from uniform MLP pruning, each generation switches a few levels of the best so far, and
    the best of the offspring replaces it if it measures better. ``depth-importance`` measures the model without each
    layer alone, or without each block of layers, and drops those that are missed least until the budget is met, as in
    arXiv 2402.02834, section 3.1.

    Args:
        name: which search.
        problem: its space, budget and objective.
        parameters: another upper limit beside those of the budget; proposals lie just under it.
        evaluations: number of architectures to measure.
        measure: measures them.

    Raises:
        EvaluationError: nothing could be measured.
        BudgetError: the space has nothing so small.
    """
    searches = {"random-search": _random, "evolution": _evolution, "depth-importance": _by_importance}
    found = searches[name](problem, problem.budget.at_most(parameters), evaluations, measure)
    if found is None:
        raise EvaluationError(f"{name} could not measure anything: see the registry's table failures")
    return found


def _random(problem: Problem, budget: Budget, evaluations: int, measure: Measure) -> Architecture | None:
    rng, found = problem.rng("random-search"), dict[Architecture, None]()
    for _ in range(MOST_DRAWS):
        drawn = budget.fit(problem.space.choices, problem.space.sample(evaluations, rng), rng)
        found |= dict.fromkeys(_architectures(problem, drawn))
        if len(found) >= evaluations:
            break
    return _best(problem, measure(list(found)[:evaluations]))


def _evolution(problem: Problem, budget: Budget, evaluations: int, measure: Measure) -> Architecture | None:
    rng = problem.rng("evolution")
    parent = uniform_mlp_indices(problem.space, budget, rng)[0]
    tried = set(_architectures(problem, parent[None]))
    measured = dict(measure(list(tried)))
    while len(tried) < evaluations:
        rows = _offspring(problem, budget, parent, tried, min(OFFSPRING, evaluations - len(tried)), rng)
        if not rows:
            break
        tried |= set(rows)
        measured |= measure(list(rows))
        best = _best(problem, measured)
        parent = parent if best is None else rows.get(best, parent)
    return _best(problem, measured)


def _by_importance(problem: Problem, budget: Budget, _: int, measure: Measure) -> Architecture | None:
    choices = problem.space.choices
    columns = layer_columns(choices)
    rows = np.tile(largest_indices(choices), (len(columns), 1))
    rows[np.arange(len(columns)), columns] = 0
    without = _architectures(problem, rows)
    measured = Measured(problem.objective, measure(without))
    if not measured:
        return None
    scores = dict(zip(measured.architectures, measured.scores.tolist(), strict=True))
    missed = [scores.get(architecture, math.inf) for architecture in without]
    return without_layers(choices, budget, [columns[place] for place in np.argsort(missed, kind="stable")])


def _offspring(
    problem: Problem, budget: Budget, parent: Indices, tried: set[Architecture], count: int, rng: np.random.Generator
) -> dict[Architecture, Indices]:
    """Up to ``count`` mutations of the parent that have not been tried."""
    choices, found = problem.space.choices, dict[Architecture, Indices]()
    for _ in range(count * MOST_DRAWS):
        if len(found) == count:
            break
        child = parent.copy()
        for _ in range(int(rng.integers(1, MOST_SWITCHES + 1, size=2).min())):
            switch_levels(child, choices, rng)
        fitted = budget.fit(choices, child[None], rng)
        (architecture,) = _architectures(problem, fitted)
        if architecture not in tried:
            found[architecture] = fitted[0]
    return found


def _architectures(problem: Problem, indices: Indices) -> list[Architecture]:
    return architectures_at(problem.space.choices, problem.shape.dense, indices)


def _best(problem: Problem, metrics: Mapping[Architecture, Metrics]) -> Architecture | None:
    if not metrics:
        return None
    measured = Measured(problem.objective, metrics)
    return measured.architectures[int(np.argmin(measured.scores))]
