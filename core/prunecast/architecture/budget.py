"""Budgets: upper limits on the cost of an architecture, and the repair of proposals that exceed or underuse them.

Notation:
    N        number of architectures
    C        number of choices
    L        number of layers of the dense model
    V        number of values of one choice
    Q        number of limited quantities
    indices  positions of the chosen values, int64 of shape (N, C)
    sizes    KV groups, heads per group and MLP width of each layer, int64 of shape (N, L, 3)
    costs    cost of each value of one choice in every limited quantity, int64 of shape (V, Q)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Sizes, sizes_of
from prunecast.architecture.choices import COLUMNS, Choice, Indices, sizes_at, value_costs
from prunecast.architecture.shape import ModelShape, Quantity
from prunecast.architecture.speed import NANOSECONDS, SPEEDS
from prunecast.errors import BudgetError


def absolute(value: float, dense: int) -> float:
    """A limit in absolute units, not rounded: up to 1 it is a fraction of ``dense``, above 1 it is absolute already."""
    return dense * value if value <= 1 else value


def in_own_unit(quantity: str, count: int) -> int | float:
    """A count as users write and read it: that of a speed in milliseconds, others as they are."""
    return count / NANOSECONDS if quantity in SPEEDS else count


def _told(quantity: str, count: int) -> str:
    return f"{count / NANOSECONDS:,.5g} ms" if quantity in SPEEDS else f"{count:,}"


PERCENT = 100
"""Up to this, a limit above 1 is a percentage: no model is so small."""

_UNITS: Mapping[str, str] = {"macs": "multiply-accumulates", "kv_cache_bytes": "bytes"}


def check_is_no_percentage(value: float, quantity: str) -> None:
    """Raise ValueError if a limit of a quantity was most likely meant as a percentage."""
    if 1 < value <= PERCENT:
        raise ValueError(
            f"{value:g} would be {value:g} {_UNITS.get(quantity, 'parameters')}; write {value / PERCENT:g} for "
            f"{value:g} %, or a number above {PERCENT}"
        )


@dataclass(frozen=True)
class Budget:
    """Upper limits on an architecture, all of which it has to meet.

    Attributes:
        shape: the dense model, at the context that costs are counted at.
        limits: the largest allowed value of each limited quantity, in absolute units; of speeds, in nanoseconds. If
            empty, every architecture meets the budget.
    """

    shape: ModelShape
    limits: Mapping[Quantity, int]

    @classmethod
    def of(cls, shape: ModelShape, wanted: Mapping[Quantity, float], context: int | None = None) -> "Budget":
        """Budget from the numbers of a spec: at most 1, a fraction of the dense model; above 1, an absolute count.

        Args:
            shape: the dense model.
            wanted: the numbers; absolute ones of speeds are milliseconds.
            context: context in tokens to count at; that of the model by default.

        Raises:
            BudgetError: the context is longer than that of the model, or a speed has not been measured at it.
        """
        if context is not None and context > shape.context:
            raise BudgetError(f"context {context:,} is longer than the model's: set it to {shape.context:,} or less")
        dense = cls(shape.at(context), {})
        limits = {}
        for quantity, value in wanted.items():
            unit = NANOSECONDS if quantity in SPEEDS and value > 1 else 1
            limits[quantity] = math.floor(unit * absolute(value, dense.dense_count(quantity)))
        return cls(dense.shape, limits)

    def at_most(self, parameters: int) -> "Budget":
        """The same budget with another limit of the parameters."""
        return replace(self, limits={**self.limits, "parameters": parameters})

    def dense_count(self, quantity: Quantity) -> int:
        """``quantity`` of the dense model."""
        return int(self.shape.count([self.shape.dense], quantity)[0])

    def usage(self, sizes: Sizes) -> NDArray[np.float64]:
        """Largest ratio of a quantity to its limit, shape (N,), for sizes (N, L, 3); at most 1 meets the budget."""
        shares = [self.shape.count_sizes(sizes, q) / max(limit, 1) for q, limit in self.limits.items()]
        return np.max(shares, axis=0) if shares else np.zeros(len(sizes))

    def met_by(self, architecture: Architecture) -> bool:
        """True if the architecture exceeds no limit."""
        return bool(self.usage(sizes_of([architecture]))[0] <= 1)

    def check(self, choices: Sequence[Choice]) -> None:
        """Raise BudgetError, naming the smallest cost possible, if no architecture of the choices meets the budget."""
        if not self.limits:
            return
        smallest = _smallest(self, choices, _levels(self, choices, _costs_of(self, choices)))
        for quantity, limit in self.limits.items():
            reached = int(self.shape.count_sizes(smallest, quantity)[0])
            if reached > limit:
                dense = self.dense_count(quantity)
                raise BudgetError(
                    f"no architecture of the search space meets {quantity} <= {_told(quantity, limit)} "
                    f"({limit / dense:.1%} of the dense model): the smallest has {_told(quantity, reached)}. Raise the "
                    f"budget to at least {np.ceil(reached / dense * 1000) / 1000:.3f}, or let the space prune more "
                    "layers or larger shares"
                )

    def fit(self, choices: Sequence[Choice], indices: Indices, rng: np.random.Generator) -> Indices:
        """Repair proposals so that they meet the budget and use it up: a changed copy of ``indices``, shape (N, C).

        The choices of each row are visited in a random order of that row. A first phase lowers values, one level per
        visit, until the budget is met; a second one raises them while it is still met. Proposals below the budget are
        raised as well, so every result lies just under the budget, and random proposals become a random sample of its
        boundary. A value is skipped if a larger one costs less: less in some limited quantity and more in none or, if
        no architecture of the remaining values meets the budget, less in any quantity.

        Args:
            choices: the C choices.
            indices: the proposals, not changed.
            rng: random generator of the orders.

        Raises:
            BudgetError: no architecture of the choices meets the budget.
        """
        self.check(choices)
        fitted = indices.copy()
        if not self.limits:
            return fitted
        totals = _RunningTotals(self, choices, fitted)
        while (over := totals.over()).any():
            totals.step(fitted, over, -1, rng)
        while totals.step(fitted, np.ones(len(fitted), dtype=bool), +1, rng):
            pass
        return fitted


class _RunningTotals:
    """Totals of every limited quantity for a batch of rows, updated as choices of the rows change.

    They are for as many tokens as the costs of values are, so that they are exact.
    """

    def __init__(self, budget: Budget, choices: Sequence[Choice], indices: Indices) -> None:
        shape = budget.shape
        self._limits = np.array([limit * shape.tokens(quantity) for quantity, limit in budget.limits.items()])
        self._totals = _totals(budget, sizes_at(choices, shape.dense, indices))
        self._sizes = None if _adds_up(budget, choices) else _RunningSizes(budget, choices, indices)
        most = max(len(choice.values) for choice in choices)
        self._costs = np.zeros((len(choices), most, len(budget.limits)), dtype=np.int64)
        self._next = {direction: np.zeros((len(choices), most), dtype=np.int64) for direction in (-1, 1)}
        by_choice = _costs_of(budget, choices)
        for c, (costs, positions) in enumerate(zip(by_choice, _levels(budget, choices, by_choice), strict=True)):
            values = np.arange(len(costs))
            self._costs[c, : len(costs)] = costs
            self._next[-1][c, : len(costs)] = positions[np.maximum(np.searchsorted(positions, values) - 1, 0)]
            above = np.searchsorted(positions, values, side="right")
            self._next[1][c, : len(costs)] = positions[np.minimum(above, len(positions) - 1)]

    def over(self) -> NDArray[np.bool_]:
        """Rows that exceed a limit."""
        return np.asarray((self._totals > self._limits).any(axis=1))

    def step(self, indices: Indices, rows: NDArray[np.bool_], direction: int, rng: np.random.Generator) -> bool:
        """Move each choice of ``rows`` one level by ``direction`` if the budget calls for it; True if any moved."""
        moved_any = False
        order = rng.permuted(np.tile(np.arange(indices.shape[1]), (len(indices), 1)), axis=1)
        all_rows = np.arange(len(indices))
        for choice in order.T:
            now = indices[all_rows, choice]
            target = self._next[direction][choice, now]
            asked = rows & (target != now) & (self.over() if direction < 0 else True)
            move = np.flatnonzero(asked)
            after = self._after(move, choice[move], now[move], target[move])
            if direction > 0:
                fits = (after <= self._limits).all(axis=1)
                move, after = move[fits], after[fits]
            indices[move, choice[move]] = target[move]
            self._totals[move] = after
            if self._sizes is not None:
                self._sizes.move(move, choice[move], target[move])
            moved_any |= bool(len(move))
        return moved_any

    def _after(
        self, rows: NDArray[np.int64], choice: NDArray[np.int64], now: NDArray[np.int64], target: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Totals of M of the rows, shape (M, Q), after one choice of each, (M,), took another value, (M,)."""
        if self._sizes is not None:
            return self._sizes.totals_after(rows, choice, target)
        return np.asarray(self._totals[rows] + self._costs[choice, target] - self._costs[choice, now])


def _adds_up(budget: Budget, choices: Sequence[Choice]) -> bool:
    """True if every total is the sum of the costs of values: no layer has costs that its choices have in common."""
    shared = any(budget.shape.shared_costs(quantity).any() for quantity in budget.limits)
    whole, parts = (
        {layer for choice in choices if (choice.component == "layer") == is_whole for layer in choice.layers}
        for is_whole in (True, False)
    )
    return not shared and whole.isdisjoint(parts)


class _RunningSizes:
    """Sizes of a batch of rows, whose totals are counted anew after each move, where costs of values do not add up.

    Each layer has four numbers: its sizes by the choices of components, and 1 if the layer is there, else 0.
    """

    def __init__(self, budget: Budget, choices: Sequence[Choice], indices: Indices) -> None:
        most = max(len(choice.values) for choice in choices)
        self._budget = budget
        self._values = np.zeros((len(choices), most, 4), dtype=np.int64)
        self._covers = np.zeros((len(choices), len(budget.shape.layers), 4), dtype=bool)
        for c, choice in enumerate(choices):
            columns = slice(3, 4) if choice.component == "layer" else COLUMNS[choice.component]
            self._values[c, : len(choice.values), columns] = choice.values
            self._covers[c, list(choice.layers), columns] = True
        dense = np.concatenate([sizes_of([budget.shape.dense]), np.ones((1, len(budget.shape.layers), 1))], axis=2)
        self._numbers = np.repeat(dense.astype(np.int64), len(indices), axis=0)
        every = np.arange(len(indices))
        for c in range(len(choices)):
            self.move(every, np.full_like(every, c), indices[:, c])

    def totals_after(
        self, rows: NDArray[np.int64], choice: NDArray[np.int64], value: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Totals of M of the rows, shape (M, Q), if one choice of each, (M,), took a value, (M,)."""
        numbers = self._after(rows, choice, value)
        return _totals(self._budget, numbers[..., :3] * numbers[..., 3:])

    def move(self, rows: NDArray[np.int64], choice: NDArray[np.int64], value: NDArray[np.int64]) -> None:
        """Let one choice of each of ``rows`` take a value."""
        self._numbers[rows] = self._after(rows, choice, value)

    def _after(self, rows: NDArray[np.int64], choice: NDArray[np.int64], value: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(self._covers[choice], self._values[choice, value][:, None], self._numbers[rows])


def _totals(budget: Budget, sizes: Sizes) -> NDArray[np.int64]:
    """Totals of every limited quantity, shape (N, Q), of architectures of ``sizes`` (N, L, 3)."""
    return np.stack([budget.shape.totals(sizes, quantity) for quantity in budget.limits], axis=1)


def _costs_of(budget: Budget, choices: Sequence[Choice]) -> list[NDArray[np.int64]]:
    """Cost of each value of each choice in every limited quantity: C arrays of shape (V, Q)."""
    by_quantity = [value_costs(choices, budget.shape, quantity) for quantity in budget.limits]
    return [np.stack(costs, axis=1) for costs in zip(*by_quantity, strict=True)]


def _levels(budget: Budget, choices: Sequence[Choice], costs: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Levels that proposals move between: for each choice the ascending positions of a subset of its values.

    A value is left out if it costs more than a larger value in some quantity and less in none: five KV groups of one
    head cost more than three of two. If the smallest remaining architecture still exceeds the budget, a value is left
    out if it costs more than a larger one in any quantity: five groups of two heads have fewer parameters than four of
    four, but a larger KV cache.
    """
    levels = [_levels_of(_costs_more_and_never_less(each)) for each in costs]
    if _reach_budget(budget, choices, levels):
        return levels
    shorter = [_levels_of(_costs_more_in_any(each)) for each in costs]
    return shorter if _reach_budget(budget, choices, shorter) else levels


def _reach_budget(budget: Budget, choices: Sequence[Choice], levels: Sequence[NDArray[np.int64]]) -> bool:
    return bool(budget.usage(_smallest(budget, choices, levels))[0] <= 1)


def _smallest(budget: Budget, choices: Sequence[Choice], levels: Sequence[NDArray[np.int64]]) -> Sizes:
    """Sizes, shape (1, L, 3), of the architecture at the lowest level of every choice."""
    return sizes_at(choices, budget.shape.dense, np.array([[positions[0] for positions in levels]], dtype=np.int64))


def _costs_more_in_any(costs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Entry (i, j) is True if value i costs more than value j in any quantity: shape (V, V) from costs (V, Q)."""
    return np.asarray((costs[:, None] > costs[None]).any(axis=-1))


def _costs_more_and_never_less(costs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Entry (i, j) is True if value i costs more than value j in some quantity and less in none: shape (V, V)."""
    return _costs_more_in_any(costs) & (costs[:, None] >= costs[None]).all(axis=-1)


def _levels_of(costs_more: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions of the values that do not cost more than a larger one, from a comparison of shape (V, V)."""
    return np.flatnonzero(~np.triu(costs_more, k=1).any(axis=1))
