"""The initial design: architectures that are measured before the first fit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Indices, architectures_at, sizes_at
from prunecast.architecture.formats import from_text
from prunecast.errors import BudgetError
from prunecast.plugins.interfaces import SearchSpace
from prunecast.problem.problem import Problem
from prunecast.registry import Registry, Setting
from prunecast.registry.queries.pairs import measured_by_others
from prunecast.spec.model import CollectSpec, Spec

LEVELS = 8
"""Budgets that the proposals are spread over, evenly from below to above the target."""

UNIFORM = 10
"""One pair in every UNIFORM is a uniform architecture."""

PER_LEVEL = 4
"""Number of proposals for each budget in a batch."""

DRAWN = 8 * PER_LEVEL * LEVELS
"""Number of architectures drawn for a batch; those nearest in size to each budget become its proposals."""

MOST_BATCHES = 200
"""Batches after which a space too small for the wanted pairs counts as exhausted."""


def reused_architectures(
    spec: Spec, problem: Problem, registry: Registry, settings: Sequence[Setting]
) -> list[Architecture]:
    """Architectures that count as pairs before any is proposed: from the spec's file, then from other runs.

    Architectures that this run has measured itself are not among them, so a run that is continued proposes the same as
    before, unless other runs have measured meanwhile.

    Args:
        spec: the run's spec.
        problem: the problem.
        registry: registry with the pairs of other runs.
        settings: settings that pairs have to be measured under, one for each evaluator of the search.

    Raises:
        ConfigurationError: the file cannot be read, or holds an architecture of another model.
    """
    path = spec.architectures_path
    named = [] if path is None else from_text(path, problem.shape).architectures
    if not spec.collect.reuse:
        return named
    return list(dict.fromkeys([*named, *measured_by_others(registry, settings, spec.key)]))


def propose(problem: Problem, options: CollectSpec, start: Sequence[Architecture] = ()) -> list[Architecture]:
    """Architectures to learn from, all different: the same ones for the same problem, options and ``start``.

    With a budget and a band, proposals of the space are fitted to budgets around the target, the region in which the
    predictor will be used, and one in :data:`UNIFORM` is a uniform architecture. Without, they are draws of the space.
    All of ``start`` come first and count.
    """
    found = dict.fromkeys([*start, *_uniform_architectures(problem, options)])
    least = len(found)
    for batch in range(MOST_BATCHES):
        if len(found) >= options.pairs:
            break
        found |= dict.fromkeys(each for each in _batch(problem, options, batch) if problem.allows(each))
    return list(found)[: max(options.pairs, least)]


def uniform_mlp_indices(space: SearchSpace[Any], budget: Budget, rng: np.random.Generator) -> Indices:
    """Whole attention and uniformly pruned MLPs, as near to the budget as the space's values allow: shape (1, C).

    If pruning MLPs alone cannot meet the budget, the other choices are lowered in a random order.
    """
    choices = space.choices
    top = np.array([len(choice.values) - 1 for choice in choices])
    steps = np.arange(top.max() + 1)[:, None]
    ladder = np.where([choice.component == "mlp" for choice in choices], np.minimum(steps, top), top)
    met = np.flatnonzero(budget.usage(sizes_at(choices, space.shape.dense, ladder)) <= 1)
    return budget.fit(choices, ladder[met[-1:]] if len(met) else ladder[:1], rng)


def _uniform_architectures(problem: Problem, options: CollectSpec) -> list[Architecture]:
    """Uniform architectures at budgets around the target.

    Random architectures are rarely as good. Without uniform ones in the training set the predictor overrates distant
    architectures, and a search that starts from a uniform one ends no worse.
    """
    budgets, rng, found = _budgets(problem, options), problem.rng("even"), []
    wanted = min(options.pairs // UNIFORM, len(budgets))
    for place in np.linspace(0, len(budgets) - 1, wanted).round().astype(np.int64):
        indices = uniform_mlp_indices(problem.space, budgets[place], rng)
        found += architectures_at(problem.space.choices, problem.shape.dense, indices)
    return found


def _batch(problem: Problem, options: CollectSpec, number: int) -> list[Architecture]:
    """Proposals for every level in turn, so that any number of them lies on both sides of the target.

    Batches do not depend on one another: more pairs begin with the same ones. Without levels a batch is all pairs at
    once, so that the space's shares of them, such as of tied ones, are exact.
    """
    rng, choices, budgets = problem.rng("collect", number), problem.space.choices, _budgets(problem, options)
    if not budgets:
        return architectures_at(choices, problem.shape.dense, problem.space.sample(options.pairs, rng))
    drawn = problem.space.sample(DRAWN, rng)
    sizes = sizes_at(choices, problem.shape.dense, drawn)
    rows = nearest_to_each(np.stack([budget.usage(sizes) for budget in budgets]), PER_LEVEL)
    fitted = [budget.fit(choices, drawn[own], rng) for budget, own in zip(budgets, rows, strict=True)]
    return architectures_at(choices, problem.shape.dense, np.concatenate(np.stack(fitted, axis=1)))


def nearest_to_each(usage: NDArray[np.float64], count: int) -> list[NDArray[np.int64]]:
    """For each budget, the ``count`` rows nearest to it in size; no row is given to two budgets.

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


def _budgets(problem: Problem, options: CollectSpec) -> list[Budget]:
    """Budgets around the target that the space can meet, at most the dense size; none without a budget or a band."""
    band, wanted = options.band, problem.budget
    if not wanted.limits or band is None:
        return []
    possible = []
    for shift in np.linspace(-band, band, LEVELS):
        limits = {
            quantity: min(limit + int(shift * wanted.dense_count(quantity)), wanted.dense_count(quantity))
            for quantity, limit in wanted.limits.items()
        }
        budget = replace(wanted, limits=limits)
        try:
            budget.check(problem.space.choices)
        except BudgetError:
            continue
        possible.append(budget)
    return possible
