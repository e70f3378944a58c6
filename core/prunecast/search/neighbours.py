"""Local sensitivities of the metrics around the best measured architectures, as Taylor expansions.

A random pair teaches a predictor the joint effect of fifty choices. The sensitivities around a measured architecture
give the effect of each single choice in the region where the search continues, at the price of some evaluations
(:mod:`prunecast.models.sensitivity`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats, Layer
from prunecast.architecture.choices import Choice, Indices, architectures_at, indices_of
from prunecast.predict.taylor_expansion import ChoiceSensitivity, TaylorExpansion
from prunecast.problem.measured import Measured
from prunecast.problem.problem import Problem

LayerChange = tuple[int, Layer]
"""Index of a layer, and its sizes after a change."""

Estimate = Callable[
    [Mapping[Architecture, Collection[LayerChange]]],
    Mapping[Architecture, Sequence[Mapping[LayerChange, tuple[float, float]]]],
]
"""Function that estimates changes of single layers around architectures. For each architecture and each of M metrics it
returns the first-order change and the second-order term of every layer change, on the scale predictors learn."""


def expansions_around_best(
    problem: Problem, measured: Measured, count: int, known: Collection[Architecture], estimate: Estimate
) -> dict[Architecture, TaylorExpansion]:
    """Taylor expansions around ``count`` of the best measured architectures that meet the budget.

    Args:
        problem: the problem, over a refined space if there is one.
        measured: all measured pairs.
        count: number of expansion points.
        known: earlier expansion points; the next best architectures follow them.
        estimate: estimates the sensitivities.
    """
    around: dict[Architecture, _Changes] = {}
    for point in measured.ranked(problem.budget):
        if len(around) == count:
            break
        row = None if point in known else indices_of(problem.space.choices, problem.shape.dense, point)
        if row is not None:
            around[point] = _changes_around(problem, point, row)
    estimated = estimate({point: changes.of_layers for point, changes in around.items()})
    return {point: _expansion(problem, measured, point, around[point], estimated[point]) for point in around}


def estimated_positions(choice: Choice, position: int) -> list[int]:
    """Positions of the values to be estimated: 1, 2, 4, ... away from ``position``, and both ends."""
    top = len(choice.values) - 1
    away = {position + sign * 2**doubling for doubling in range(top.bit_length()) for sign in (-1, 1)}
    return sorted({0, top, *(to for to in away if 0 <= to <= top)} - {position})


@dataclass(frozen=True)
class _Changes:
    """Changes around an expansion point: its positions, and for each choice the layer changes by new position."""

    row: Indices
    of_choices: list[dict[int, list[LayerChange]]]

    @property
    def of_layers(self) -> set[LayerChange]:
        """All changes of single layers."""
        return {change for of_choice in self.of_choices for several in of_choice.values() for change in several}


def _changes_around(problem: Problem, point: Architecture, row: Indices) -> _Changes:
    of_choices = [
        {to: _layer_changes(problem, point, row, place, to) for to in estimated_positions(choice, int(row[place]))}
        for place, choice in enumerate(problem.space.choices)
    ]
    return _Changes(row, of_choices)


def _expansion(
    problem: Problem,
    measured: Measured,
    point: Architecture,
    changes: _Changes,
    found: Sequence[Mapping[LayerChange, tuple[float, float]]],
) -> TaylorExpansion:
    no_change = np.zeros((2, len(found)))

    def total(several: Sequence[LayerChange]) -> Floats:
        """Summed terms of several changes; zero if no layer changes, as when only sizes of removed layers differ."""
        if not several:
            return no_change
        summed: Floats = np.sum([[of_metric[change] for of_metric in found] for change in several], axis=0).T
        return summed

    sensitivities = [
        ChoiceSensitivity.of(
            choice,
            {int(changes.row[place]): no_change}
            | {to: total(several) for to, several in changes.of_choices[place].items()},
        )
        for place, choice in enumerate(problem.space.choices)
    ]
    return TaylorExpansion(point, measured.only([point]).targets[0], sensitivities)


def _layer_changes(problem: Problem, point: Architecture, row: Indices, place: int, to: int) -> list[LayerChange]:
    """Layers that change if the choice at ``place`` of the expansion point, at ``row``, takes its value at ``to``."""
    other = row.copy()
    other[place] = to
    (changed,) = architectures_at(problem.space.choices, problem.shape.dense, other[None])
    layers = enumerate(zip(point.layers, changed.layers, strict=True))
    return [(index, kept) for index, (before, kept) in layers if kept != before]
