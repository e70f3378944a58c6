"""The collecting stage: which architectures are measured before the first fit."""

import numpy as np

from prunecast.architecture import Architecture
from prunecast.budget import Budget
from prunecast.choices import Indices, architectures_at
from prunecast.errors import BudgetError
from prunecast.pipeline.setup import Setup

LEVELS = 8
"""Budgets that the proposals are spread over, evenly from below to above the target."""


def propose(setup: Setup) -> list[Architecture]:
    """The architectures to learn from, all different: the same ones for the same spec and model.

    With a budget and a band, proposals of the space are brought to budgets spread around the target, because that is
    where the predictor will be asked. Without, they are what the space draws.
    """
    choices, wanted = setup.space.choices, setup.spec.collect.pairs
    found: dict[Architecture, None] = {}
    for attempt in range(20):
        rng = setup.rng("collect", attempt)
        indices = _around_budget(setup, setup.space.sample(wanted, rng), rng)
        found |= dict.fromkeys(architectures_at(choices, setup.shape.dense, indices))
        if len(found) >= wanted:
            break
    return list(found)[:wanted]


def _around_budget(setup: Setup, indices: Indices, rng: np.random.Generator) -> Indices:
    budgets = _budgets(setup)
    if not budgets:
        return indices
    fitted = indices.copy()
    for level, budget in enumerate(budgets):
        fitted[level :: len(budgets)] = budget.fit(setup.space.choices, indices[level :: len(budgets)], rng)
    return fitted


def _budgets(setup: Setup) -> list[Budget]:
    """Budgets around the target that the space can meet; none if the spec has no budget or no band."""
    band = setup.spec.collect.band
    if not setup.budget.limits or band is None:
        return []
    possible = []
    for shift in np.linspace(-band, band, LEVELS):
        limits = {
            quantity: min(limit + int(shift * setup.dense_count(quantity)), setup.dense_count(quantity))
            for quantity, limit in setup.budget.limits.items()
        }
        budget = Budget(setup.shape, limits)
        try:
            budget.check(setup.space.choices)
        except BudgetError:
            continue
        possible.append(budget)
    return possible
