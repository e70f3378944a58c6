"""The collecting stage: which architectures are measured before the first fit."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Indices, architectures_at, sizes_at
from prunecast.architecture.formats import from_text
from prunecast.errors import BudgetError
from prunecast.measure.setup import Setup
from prunecast.registry import Registry
from prunecast.registry.queries.pairs import measured_by_others

LEVELS = 8
"""Budgets that the proposals are spread over, evenly from below to above the target."""

EVEN = 10
"""Pairs for one of which the cut is even."""

PER_LEVEL = 4
"""Proposals for each budget in a batch."""

DRAWN = 8 * PER_LEVEL * LEVELS
"""Architectures drawn for a batch; those nearest in size to each budget become its proposals."""

MOST_BATCHES = 200
"""Batches after which a space too small for the wanted pairs is taken to be exhausted."""


def given(setup: Setup, registry: Registry) -> list[Architecture]:
    """What counts as pairs before anything is proposed: the spec's file of architectures, then pairs of other runs.

    What this run has measured itself is not among them, so that a run that is continued proposes the same as before.

    Raises:
        ConfigurationError: the file cannot be read, or holds an architecture that is none of the model.
    """
    path = setup.spec.architectures_path
    named = [] if path is None else from_text(path, setup.shape).architectures
    if not setup.spec.collect.reuse:
        return named
    settings = [each.setting for each in setup.evaluators]
    return list(dict.fromkeys([*named, *measured_by_others(registry, settings, setup.spec.key)]))


def propose(setup: Setup, start: Sequence[Architecture] = ()) -> list[Architecture]:
    """The architectures to learn from, all different: the same ones for the same spec, model and ``start``.

    With a budget and a band, proposals of the space are brought to budgets spread around the target, because that is
    where the predictor will be asked, and one in ``EVEN`` is an even cut. Without, they are what the space draws. All
    of ``start`` come first and count.
    """
    found = dict.fromkeys([*start, *_even_cuts(setup)])
    least = len(found)
    for batch in range(MOST_BATCHES):
        if len(found) >= setup.spec.collect.pairs:
            break
        found |= dict.fromkeys(_batch(setup, batch))
    return list(found)[: max(setup.spec.collect.pairs, least)]


def _even_cuts(setup: Setup) -> list[Architecture]:
    """Even cuts at budgets around the target.

    Random cuts are rarely as good as this one. A predictor that has not seen it expects too much of what is unlike all
    it has seen, and a search that starts from it ends no worse.
    """
    budgets, rng, found = _budgets(setup), setup.rng("even"), []
    wanted = min(setup.spec.collect.pairs // EVEN, len(budgets))
    for place in np.linspace(0, len(budgets) - 1, wanted).round().astype(np.int64):
        found += architectures_at(setup.space.choices, setup.shape.dense, even_cut(setup, budgets[place], rng))
    return found


def even_cut(setup: Setup, budget: Budget, rng: np.random.Generator) -> Indices:
    """Attention whole and MLPs cut alike, as near to the budget as the values of the space allow: shape (1, C)."""
    choices = setup.space.choices
    top = np.array([len(choice.values) - 1 for choice in choices])
    steps = np.arange(top.max() + 1)[:, None]
    ladder = np.where([choice.component == "mlp" for choice in choices], np.minimum(steps, top), top)
    within = np.flatnonzero(budget.usage(sizes_at(choices, setup.shape.dense, ladder)) <= 1)
    return budget.fit(choices, ladder[within[-1:]] if len(within) else ladder[:1], rng)


def _batch(setup: Setup, number: int) -> list[Architecture]:
    """Proposals for every level in turn, so that however few are taken they lie on both sides of the target.

    Batches do not depend on one another: more pairs begin with the same ones. Without levels a batch is all pairs at
    once, so that the space's shares of them, such as of tied ones, are exact.
    """
    rng, choices, budgets = setup.rng("collect", number), setup.space.choices, _budgets(setup)
    if not budgets:
        return architectures_at(choices, setup.shape.dense, setup.space.sample(setup.spec.collect.pairs, rng))
    drawn = setup.space.sample(DRAWN, rng)
    sizes = sizes_at(choices, setup.shape.dense, drawn)
    rows = nearest_to_each(np.stack([budget.usage(sizes) for budget in budgets]), PER_LEVEL)
    fitted = [budget.fit(choices, drawn[own], rng) for budget, own in zip(budgets, rows, strict=True)]
    return architectures_at(choices, setup.shape.dense, np.concatenate(np.stack(fitted, axis=1)))


def nearest_to_each(usage: NDArray[np.float64], count: int) -> list[NDArray[np.int64]]:
    """For each budget ``count`` rows of their own that change least by being brought to it.

    Args:
        usage: share of budget b that row n uses, shape (B, N), N at least B x ``count``.
        count: rows a budget.
    """
    apart, rows = np.abs(np.log(np.maximum(usage, np.finfo(np.float64).tiny))), []
    for distances in apart:
        own = np.argsort(distances, kind="stable")[:count]
        apart[:, own] = np.inf
        rows.append(own)
    return rows


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
