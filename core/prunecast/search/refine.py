"""Refinement of the space: important choices lose their hardest cuts, unimportant ones may be cut harder.

The paper (arXiv 2309.09507, section 4) reads the importances off its trees and then limits the attention of layers
3-6, 11-18 and 26-29 to rates of 0.1 to 0.3 and lets attention and MLP of layers 19-25 go from 0.2 to 0.7: of 54
choices the 16 and the 14 that it took for the most and the least important. The rules here are those numbers as rules:

1. The importance of a choice is the mean of its shares over the metrics of the objective, by their weights. Importances
   are compared per layer, so that a choice of four tied layers is not important for being four.
2. The ``narrow.share`` most important choices keep only those of their values that cut at ``narrow.most`` or less.
3. The ``widen.share`` least important choices lose their values that cut at less than ``widen.least``, and get, where
   the space can build them, values that cut harder than any of their own, in steps of ``widen.step`` to ``widen.most``.
4. A change that would leave a choice fewer than two values is not made. If no architecture of the refined space met the
   budget, narrowings are undone, the least important choice first. The record says so.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Choice, Indices, Value, ascending, cut_rates
from prunecast.errors import BudgetError
from prunecast.plugins.interfaces import PluginOptions, SearchSpace
from prunecast.predict.importance import ChoiceImportance
from prunecast.problem.problem import Problem
from prunecast.spec.model import RefineSpec, WidenSpec

Action = Literal["narrowed", "widened", "kept"]

SLACK = 0.05
"""A rate is within limits if it misses them by no more than this: whole heads and rounded widths rarely hit a rate."""


@dataclass(frozen=True)
class ChoiceChange:
    """Change of one choice by refinement, with the reason.

    Attributes:
        choice: its name.
        importance: its share of all importance, mean over the metrics by their weights and per layer.
        rank: 1 for the most important choice.
        action: kind of change.
        before, after: values, ascending by size.
        reason: one line.
    """

    choice: str
    importance: float
    rank: int
    action: Action
    before: tuple[Value, ...]
    after: tuple[Value, ...]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


class RefinedSpace(SearchSpace[PluginOptions]):
    """A space with other values for some of its choices."""

    def __init__(self, base: SearchSpace[Any], choices: tuple[Choice, ...]) -> None:
        super().__init__(base.options, base.shape)
        self._base, self._choices = base, choices

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The refined choices."""
        return self._choices

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Draws of the base space, rescaled to the new values: light cuts become light cuts of the refined space.

        Each value takes an equal part of the range [0, 1]. All choices of a draw get the same offset within their part,
        so that choices drawn as tied stay tied.
        """
        counts, base_counts = (np.array([len(c.values) for c in cs]) for cs in (self.choices, self._base.choices))
        place = (self._base.sample(count, rng) + rng.random((count, 1))) / base_counts
        stretched: Indices = (place * counts).astype(np.int64)
        return stretched


@dataclass(frozen=True)
class Refinement:
    """A refined space, and the changes that made it."""

    space: RefinedSpace
    changes: tuple[ChoiceChange, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """One object for each choice, in the order of the space."""
        return [change.to_json() for change in self.changes]


def refine(problem: Problem, found: Sequence[ChoiceImportance], options: RefineSpec) -> Refinement:
    """Refine the space of a problem by the rules above.

    Args:
        problem: its space, the budget that the refined space still has to meet, and its metrics.
        found: importance of each choice.
        options: shares and rates.
    """
    space, budget, objective = problem.space, problem.budget, problem.objective
    weights = dict(zip((metric.name for metric in objective.metrics), objective.weights, strict=True))
    scale = sum(weights.values())
    per_layer = np.array([sum(weights[m] * s for m, s in f.shares.items()) / scale / len(f.layers) for f in found])
    ranks = np.empty(len(found), dtype=np.int64)
    ranks[np.lexsort((np.arange(len(found)), -per_layer))] = np.arange(1, len(found) + 1)
    changes = [
        _change(space, choice, float(importance), int(rank), options)
        for choice, importance, rank in zip(space.choices, per_layer, ranks, strict=True)
    ]
    kept = _within_budget(space.choices, budget, changes)
    return Refinement(RefinedSpace(space, _refined(space.choices, kept)), kept)


def _change(space: SearchSpace[Any], choice: Choice, importance: float, rank: int, options: RefineSpec) -> ChoiceChange:
    count, narrow, widen = len(space.choices), options.narrow, options.widen
    action: Action = "kept"
    values, reason = choice.values, "neither among the most nor among the least important"
    if rank <= round(narrow.share * count):
        action, values = "narrowed", _cutting(space, choice, most=narrow.most)
        reason = f"among the {narrow.share:.0%} most important: cuts of up to {narrow.most:g}"
    elif rank > count - round(widen.share * count):
        action, values = "widened", _reaching(space, choice, widen)
        reason = f"among the {widen.share:.0%} least important: cuts of {widen.least:g} to {widen.most:g}"
    if len(values) < 2:
        action, values, reason = "kept", choice.values, f"{reason}, would leave it fewer than two values"
    elif values == choice.values and action != "kept":
        action, reason = "kept", f"{reason}, as before"
    return ChoiceChange(choice.name, importance, rank, action, choice.values, values, reason)


def _cutting(space: SearchSpace[Any], choice: Choice, least: float = 0.0, most: float = 1.0) -> tuple[Value, ...]:
    """Values of the choice that cut at rates between ``least`` and ``most``."""
    rated = zip(choice.values, cut_rates(choice, space.shape.dense), strict=True)
    return tuple(value for value, rate in rated if least - SLACK <= rate <= most + SLACK)


def _reaching(space: SearchSpace[Any], choice: Choice, widen: WidenSpec) -> tuple[Value, ...]:
    """The choice's own values from ``least`` on, and harder ones that the space can build, up to ``most``."""
    hardest = float(cut_rates(choice, space.shape.dense).max())
    most = math.floor(widen.most / widen.step + 1e-9)  # 0.7 / 0.1 is a little less than 7
    rates = [rate for k in range(1, most + 1) if (rate := k * widen.step) > hardest]
    built = {value for rate in rates for value in space.values_at(choice, rate)}
    return ascending(built | set(_cutting(space, choice, least=widen.least)))


def _within_budget(
    choices: Sequence[Choice], budget: Budget, changes: Sequence[ChoiceChange]
) -> tuple[ChoiceChange, ...]:
    """Changes with as many narrowings undone, least important first, as the budget needs."""
    kept = list(changes)
    for position in sorted(range(len(kept)), key=lambda i: -kept[i].rank):
        if _meets(budget, _refined(choices, kept)):
            break
        change = kept[position]
        if change.action == "narrowed":
            reason = f"{change.reason}, taken back: no architecture would meet the budget"
            kept[position] = replace(change, action="kept", after=change.before, reason=reason)
    return tuple(kept)


def _meets(budget: Budget, choices: Sequence[Choice]) -> bool:
    try:
        budget.check(choices)
    except BudgetError:
        return False
    return True


def _refined(choices: Sequence[Choice], changes: Sequence[ChoiceChange]) -> tuple[Choice, ...]:
    return tuple(replace(choice, values=change.after) for choice, change in zip(choices, changes, strict=True))
