"""The collecting stage: which architectures are measured before the first fit."""

import numpy as np

from prunecast.architecture import Architecture
from prunecast.budget import Budget
from prunecast.choices import architectures_at
from prunecast.errors import BudgetError
from prunecast.pipeline.setup import Setup

LEVELS = 8
"""Budgets that the proposals are spread over, evenly from below to above the target."""

BATCH = 4 * LEVELS
"""Proposals drawn together."""

MOST_BATCHES = 200
"""Batches after which a space too small for the wanted pairs is taken to be exhausted."""


def propose(setup: Setup) -> list[Architecture]:
    """The architectures to learn from, all different: the same ones for the same spec and model.

    With a budget and a band, proposals of the space are brought to budgets spread around the target, because that is
    where the predictor will be asked. Without, they are what the space draws.
    """
    found: dict[Architecture, None] = {}
    for batch in range(MOST_BATCHES):
        if len(found) >= setup.spec.collect.pairs:
            break
        found |= dict.fromkeys(_batch(setup, batch))
    return list(found)[: setup.spec.collect.pairs]


def _batch(setup: Setup, number: int) -> list[Architecture]:
    """Proposals for every level once. Batches do not depend on one another: more pairs begin with the same ones.

    Without levels a batch is all pairs at once, so that the space's shares of them, such as of tied ones, are exact.
    """
    rng, choices, budgets = setup.rng("collect", number), setup.space.choices, _budgets(setup)
    indices = setup.space.sample(BATCH if budgets else setup.spec.collect.pairs, rng)
    for level, budget in enumerate(budgets):
        indices[level :: len(budgets)] = budget.fit(choices, indices[level :: len(budgets)], rng)
    return architectures_at(choices, setup.shape.dense, indices)


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
