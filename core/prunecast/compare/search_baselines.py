"""Baselines that search without a predictor: every architecture they look at is measured.

They get as many real evaluations as the run itself, what its steps around architectures cost included, or as many as
the spec says, under the same evaluators, at the parameter count of its best.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Indices, architectures_at, switch_levels
from prunecast.errors import EvaluationError
from prunecast.measure.setup import Setup
from prunecast.problem.objective import Metrics
from prunecast.search.initial_design import even_cut
from prunecast.search.neighbours import EVALUATIONS
from prunecast.spec.model import Spec

Contender = Literal["random-search", "evolution"]
CONTENDERS: tuple[Contender, ...] = get_args(Contender)

Measure = Callable[[Sequence[Architecture]], Mapping[Architecture, Metrics]]

OFFSPRING = 8
"""Mutated architectures a generation."""

MOST_SWITCHES = 3
"""Levels a mutation switches: the smaller of two draws from 1 to this, as in EvoPress."""

MOST_DRAWS = 50
"""Draws in a row without a new architecture, after which a space is taken to be exhausted."""


def evaluations_of(spec: Spec, pairs: int, expansions: int) -> int:
    """Architectures that each of these searches measures: what the spec says, else what the run has spent.

    Args:
        spec: the run's spec.
        pairs: architectures the run learns from.
        expansions: architectures it looks around; each counts as
            :data:`prunecast.search.neighbours.EVALUATIONS`.
    """
    return spec.baseline_evaluations or pairs + EVALUATIONS * expansions


def contend(name: Contender, setup: Setup, parameters: int, evaluations: int, measure: Measure) -> Architecture:
    """The best architecture that a search finds with real evaluations only.

    ``random-search`` measures random proposals of the space. ``evolution`` is EvoPress (arXiv 2410.14649, algorithm 1)
    with one survivor: from the even cut of the MLPs on, each generation switches a few levels of the best so far, and
    the best of the offspring takes its place if it measures better.

    Args:
        name: which search.
        setup: whose space, budget and objective.
        parameters: another upper limit beside those of the budget; proposals lie just under it.
        evaluations: number of architectures to measure.
        measure: measures those that it can.

    Raises:
        EvaluationError: nothing could be measured.
        BudgetError: the space has nothing so small.
    """
    budget = Budget(setup.shape, {**setup.budget.limits, "parameters": parameters})
    search = {"random-search": _random, "evolution": _evolution}[name]
    measured = search(setup, budget, evaluations, measure)
    if not measured:
        raise EvaluationError(f"{name} could not measure anything: see the registry's table failures")
    return _best(setup, measured)


def _random(setup: Setup, budget: Budget, evaluations: int, measure: Measure) -> Mapping[Architecture, Metrics]:
    rng, found = setup.rng("random-search"), dict[Architecture, None]()
    for _ in range(MOST_DRAWS):
        drawn = budget.fit(setup.space.choices, setup.space.sample(evaluations, rng), rng)
        found |= dict.fromkeys(_architectures(setup, drawn))
        if len(found) >= evaluations:
            break
    return measure(list(found)[:evaluations])


def _evolution(setup: Setup, budget: Budget, evaluations: int, measure: Measure) -> Mapping[Architecture, Metrics]:
    rng = setup.rng("evolution")
    parent = even_cut(setup, budget, rng)[0]
    tried = set(_architectures(setup, parent[None]))
    measured = dict(measure(list(tried)))
    while len(tried) < evaluations:
        rows = _offspring(setup, budget, parent, tried, min(OFFSPRING, evaluations - len(tried)), rng)
        if not rows:
            break
        tried |= set(rows)
        measured |= measure(list(rows))
        if measured:
            parent = rows.get(_best(setup, measured), parent)
    return measured


def _offspring(
    setup: Setup, budget: Budget, parent: Indices, tried: set[Architecture], count: int, rng: np.random.Generator
) -> dict[Architecture, Indices]:
    """Up to ``count`` mutations of the parent that have not been tried."""
    choices, found = setup.space.choices, dict[Architecture, Indices]()
    for _ in range(count * MOST_DRAWS):
        if len(found) == count:
            break
        child = parent.copy()
        for _ in range(int(rng.integers(1, MOST_SWITCHES + 1, size=2).min())):
            switch_levels(child, choices, rng)
        fitted = budget.fit(choices, child[None], rng)
        (architecture,) = _architectures(setup, fitted)
        if architecture not in tried:
            found[architecture] = fitted[0]
    return found


def _architectures(setup: Setup, indices: Indices) -> list[Architecture]:
    return architectures_at(setup.space.choices, setup.shape.dense, indices)


def _best(setup: Setup, measured: Mapping[Architecture, Metrics]) -> Architecture:
    scores = setup.objective.score(setup.objective.targets(list(measured.values())))
    return list(measured)[int(np.argmin(scores))]
