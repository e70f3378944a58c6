"""Budgets: limits on a whole architecture, and how proposals are brought to meet them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Sizes, sizes_of
from prunecast.architecture.choices import Choice, Indices, sizes_at, value_costs
from prunecast.architecture.shape import ModelShape, Quantity
from prunecast.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """Upper limits that an architecture has to meet, all at once.

    Attributes:
        shape: the dense model.
        limits: the largest allowed value of each limited quantity, absolute. Empty: everything meets it.
    """

    shape: ModelShape
    limits: Mapping[Quantity, int]

    @classmethod
    def of(cls, shape: ModelShape, wanted: Mapping[Quantity, float]) -> "Budget":
        """Budget from the numbers of a spec: up to 1 a fraction of the dense model, above 1 an absolute count."""
        dense = {quantity: int(shape.count([shape.dense], quantity)[0]) for quantity in wanted}
        return cls(shape, {q: int(dense[q] * v) if v <= 1 else int(v) for q, v in wanted.items()})

    def usage(self, sizes: Sizes) -> NDArray[np.float64]:
        """Largest used share of any limit, shape (N,), for sizes of shape (N, L, 3); at most 1 meets the budget."""
        shares = [self.shape.count_sizes(sizes, q) / max(limit, 1) for q, limit in self.limits.items()]
        return np.max(shares, axis=0) if shares else np.zeros(len(sizes))

    def met_by(self, architecture: Architecture) -> bool:
        """Whether the architecture stays within every limit."""
        return bool(self.usage(sizes_of([architecture]))[0] <= 1)

    def check(self, choices: Sequence[Choice]) -> None:
        """Raise BudgetError, naming the smallest possible, if no architecture of the choices meets the budget."""
        if not self.limits:
            return
        smallest = _foot(self, choices, _ladders(self, choices, _costs_of(self, choices)))
        for quantity, limit in self.limits.items():
            reached = int(self.shape.count_sizes(smallest, quantity)[0])
            if reached > limit:
                dense = int(self.shape.count([self.shape.dense], quantity)[0])
                raise BudgetError(
                    f"no architecture of the search space meets {quantity} <= {limit:,} ({limit / dense:.1%} of the "
                    f"dense model): the smallest has {reached:,}. Raise the budget to at least "
                    f"{np.ceil(reached / dense * 1000) / 1000:.3f}, or let the space prune more layers or larger shares"
                )

    def fit(self, choices: Sequence[Choice], indices: Indices, rng: np.random.Generator) -> Indices:
        """Bring proposals to meet the budget and use it up: a changed copy of ``indices``, shape (N, C).

        Visits the choices of every row in an order of its own, first lowering values, one step a visit, until the
        budget is met, then raising them while it still is. What was met with room to spare is raised too, so the
        result lies just under the budget; random proposals become a random sample of its boundary. A value is passed
        over if a larger one costs less, of several limited quantities in all or, where that leads nowhere, in any.

        Raises:
            BudgetError: no architecture of the choices meets the budget.
        """
        self.check(choices)
        fitted = indices.copy()
        if not self.limits:
            return fitted
        ledger = _Ledger(self, choices, fitted)
        while (over := ledger.over()).any():
            ledger.step(fitted, over, -1, rng)
        while ledger.step(fitted, np.ones(len(fitted), dtype=bool), +1, rng):
            pass
        return fitted


class _Ledger:
    """Running totals of every limited quantity for a batch of rows that change choice by choice."""

    def __init__(self, budget: Budget, choices: Sequence[Choice], indices: Indices) -> None:
        self._limits = np.array(list(budget.limits.values()))
        sizes = sizes_at(choices, budget.shape.dense, indices)
        self._totals = np.stack([budget.shape.count_sizes(sizes, quantity) for quantity in budget.limits], axis=1)
        most = max(len(choice.values) for choice in choices)
        self._costs = np.zeros((len(choices), most, len(budget.limits)), dtype=np.int64)
        self._next = {direction: np.zeros((len(choices), most), dtype=np.int64) for direction in (-1, 1)}
        by_choice = _costs_of(budget, choices)
        for c, (costs, ladder) in enumerate(zip(by_choice, _ladders(budget, choices, by_choice), strict=True)):
            values = np.arange(len(costs))
            self._costs[c, : len(costs)] = costs
            self._next[-1][c, : len(costs)] = ladder[np.maximum(np.searchsorted(ladder, values) - 1, 0)]
            above = np.searchsorted(ladder, values, side="right")
            self._next[1][c, : len(costs)] = ladder[np.minimum(above, len(ladder) - 1)]

    def over(self) -> NDArray[np.bool_]:
        """Rows that exceed a limit."""
        return np.asarray((self._totals > self._limits).any(axis=1))

    def step(self, indices: Indices, rows: NDArray[np.bool_], direction: int, rng: np.random.Generator) -> bool:
        """Move each choice of ``rows`` once by ``direction`` where that is possible and useful; whether any moved."""
        moved_any = False
        order = rng.permuted(np.tile(np.arange(indices.shape[1]), (len(indices), 1)), axis=1)
        everyone = np.arange(len(indices))
        for choice in order.T:
            now = indices[everyone, choice]
            target = self._next[direction][choice, now]
            change = self._costs[choice, target] - self._costs[choice, now]
            after = self._totals + change
            useful = self.over() if direction < 0 else (after <= self._limits).all(axis=1)
            move = rows & useful & (target != now)
            indices[everyone[move], choice[move]] = target[move]
            self._totals[move] = after[move]
            moved_any |= bool(move.any())
        return moved_any


def _costs_of(budget: Budget, choices: Sequence[Choice]) -> list[NDArray[np.int64]]:
    """What each value of each choice costs in every limited quantity: C arrays of shape (V, Q)."""
    by_quantity = [value_costs(choices, budget.shape, quantity) for quantity in budget.limits]
    return [np.stack(costs, axis=1) for costs in zip(*by_quantity, strict=True)]


def _ladders(budget: Budget, choices: Sequence[Choice], costs: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """For each choice the positions of its values, ascending, that proposals are moved along.

    Left out is what costs more than a larger value, in no quantity less: five KV groups of one head cost more than
    three of two. If the lowest of the others are over the budget still, left out is what costs more in any quantity:
    five groups of two heads have fewer parameters than four of four, and more to cache.
    """
    ladders = [_ladder(_dearer_in_all(each)) for each in costs]
    if _leads_within(budget, choices, ladders):
        return ladders
    shorter = [_ladder(_dearer_in_any(each)) for each in costs]
    return shorter if _leads_within(budget, choices, shorter) else ladders


def _leads_within(budget: Budget, choices: Sequence[Choice], ladders: Sequence[NDArray[np.int64]]) -> bool:
    return bool(budget.usage(_foot(budget, choices, ladders))[0] <= 1)


def _foot(budget: Budget, choices: Sequence[Choice], ladders: Sequence[NDArray[np.int64]]) -> Sizes:
    """Sizes, shape (1, L, 3), of the architecture at the lowest position of every ladder."""
    return sizes_at(choices, budget.shape.dense, np.array([[ladder[0] for ladder in ladders]], dtype=np.int64))


def _dearer_in_any(costs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether value i costs more than value j in any quantity, for costs (V, Q): shape (V, V)."""
    return np.asarray((costs[:, None] > costs[None]).any(axis=-1))


def _dearer_in_all(costs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether it does, and costs less in none."""
    return _dearer_in_any(costs) & (costs[:, None] >= costs[None]).all(axis=-1)


def _ladder(dearer: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions of a choice's values without those that are dearer than a larger one: shape (V, V)."""
    return np.flatnonzero(~np.triu(dearer, k=1).any(axis=1))
