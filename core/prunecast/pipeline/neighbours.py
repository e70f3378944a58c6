"""Looking around: what the neighbours of the best pairs would measure, estimated from one backward pass each.

Neighbours take one choice one step away, or two. From a random pair a predictor learns what fifty choices do together;
from the neighbours of a pair it learns what each of them does by itself, there where the search goes on, for the price
of a few evaluations (:mod:`prunecast.models.slopes`). What a step changes is a slope, measured, and a curvature, which
is fitted to all pairs; without it every step of a search would look better than it is, and a search takes many.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecast.architecture import Architecture, Layer
from prunecast.choices import Choice, Indices, architectures_at, indices_of
from prunecast.interfaces import Floats, SearchSpace
from prunecast.pipeline.measure import Measuring, Metrics
from prunecast.pipeline.search import ranked
from prunecast.pipeline.setup import Setup

EVALUATIONS = 9
"""What the neighbours of one architecture cost, in evaluations of it: timed on SmolLM2-135M, two choices a layer."""

FARTHEST = 2
"""Steps away from an architecture that still are its neighbours."""


@dataclass(frozen=True)
class Surroundings:
    """What is known around one architecture, on the scale predictors learn, for C choices and M metrics.

    Attributes:
        row: its positions in the choices, shape (C,).
        value: its metrics, shape (M,).
        down, up: what one step down or up in each choice changes to first order, shape (C, M); zero for none.
    """

    row: Indices
    value: Floats
    down: Floats
    up: Floats

    def first_order(self, rows: Indices) -> Floats:
        """Metrics of other rows (N, C) if every step added what it changes by itself, shape (N, M)."""
        steps = rows - self.row
        summed: Floats = self.value + np.maximum(-steps, 0) @ self.down + np.maximum(steps, 0) @ self.up
        return summed


def look_around(
    setup: Setup,
    space: SearchSpace[Any],
    measuring: Measuring,
    pairs: Mapping[Architecture, Metrics],
    seen: Collection[Architecture],
) -> dict[Architecture, Surroundings]:
    """The surroundings of ``spec.neighbours`` of the best pairs within the budget.

    Args:
        setup: the set-up.
        space: its space, refined if it was.
        measuring: what measures.
        pairs: everything measured.
        seen: architectures that have been looked around already; the next best take their turn.
    """
    found: dict[Architecture, Surroundings] = {}
    for centre in ranked(setup, pairs):
        if len(found) == setup.spec.neighbours:
            break
        row = indices_of(space.choices, space.shape.dense, centre)
        if row is not None and centre not in seen:
            found[centre] = _surroundings(setup, space, measuring, centre, row, pairs[centre])
    return found


def _surroundings(
    setup: Setup,
    space: SearchSpace[Any],
    measuring: Measuring,
    centre: Architecture,
    row: Indices,
    measured: Metrics,
) -> Surroundings:
    tops = np.array([len(choice.values) - 1 for choice in space.choices])
    sides = [np.clip(row + step * np.eye(len(row), dtype=np.int64), 0, tops) for step in (-1, 1)]
    steps = [[_changed(centre, a) for a in architectures_at(space.choices, space.shape.dense, rows)] for rows in sides]
    slopes = measuring.slopes(centre, {step for side in steps for several in side for step in several})
    down, up = (
        np.array([[sum(of_metric[step] for step in several) for of_metric in slopes] for several in side], dtype=float)
        for side in steps
    )
    return Surroundings(row, setup.objective.targets([measured])[0], down, up)


def _changed(centre: Architecture, other: Architecture) -> list[tuple[int, Layer]]:
    """The layers that differ, and what they keep."""
    layers = enumerate(zip(centre.layers, other.layers, strict=True))
    return [(index, kept) for index, (before, kept) in layers if kept != before]


def neighbours(
    setup: Setup, space: SearchSpace[Any], around: Collection[Surroundings], pairs: Mapping[Architecture, Metrics]
) -> dict[Architecture, Metrics]:
    """Estimated metrics of all neighbours, slope and curvature, of everything that has been looked around."""
    known = {architecture: indices_of(space.choices, space.shape.dense, architecture) for architecture in pairs}
    rows = np.array([row for row in known.values() if row is not None])
    targets = setup.objective.targets([pairs[architecture] for architecture, row in known.items() if row is not None])
    bends = curvature(space.choices, around, rows, targets, setup.objective.signs)
    estimated: dict[Architecture, Metrics] = {}
    for centre in around:
        others = near(space.choices, centre.row)
        values = centre.first_order(others) + _squared_steps(space.choices, others - centre.row) @ bends
        architectures = architectures_at(space.choices, space.shape.dense, others)
        estimated |= dict(zip(architectures, setup.objective.metrics_of(values), strict=True))
    return estimated


def near(choices: Sequence[Choice], row: Indices) -> Indices:
    """Rows that differ in one choice by up to ``FARTHEST`` steps, shape (N, C)."""
    reach = [step for step in range(-FARTHEST, FARTHEST + 1) if step]
    moved = np.concatenate([row + step * np.eye(len(row), dtype=np.int64) for step in reach])
    tops = np.array([len(choice.values) for choice in choices])
    return moved[((moved >= 0) & (moved < tops)).all(axis=1)]


def curvature(
    choices: Sequence[Choice], around: Collection[Surroundings], rows: Indices, targets: Floats, signs: Floats
) -> Floats:
    """What a step changes for the worse beyond its slope, in proportion to its square: shape (2, M).

    One number for all choices of attention and one for all of MLPs, at least zero, that fit best what pairs measured
    beyond the sums of their steps from each centre. Pairs count alike, near or far.

    Args:
        choices: the C choices.
        around: the centres.
        rows: pairs in positions, shape (N, C).
        targets: what they measured, shape (N, M).
        signs: 1 for each metric of which less is better, else -1, shape (M,).
    """
    from scipy.optimize import nnls

    squares, beyond = [np.zeros((1, 2))], [np.zeros((1, len(signs)))]
    for centre in around:
        taken = _squared_steps(choices, rows - centre.row)
        total = taken.sum(axis=1, keepdims=True)
        away = total[:, 0] > 0
        squares.append(taken[away] / total[away])
        beyond.append((targets - centre.first_order(rows))[away] / total[away])
    fitted = [nnls(np.concatenate(squares), column)[0] for column in (np.concatenate(beyond) * signs).T]
    return np.stack(fitted, axis=1) * signs


def _squared_steps(choices: Sequence[Choice], steps: Indices) -> Floats:
    """Sums of squares of steps (N, C) in attention and in MLPs, shape (N, 2)."""
    members = np.array([[choice.component == part for part in ("attention", "mlp")] for choice in choices])
    return np.asarray(steps**2 @ members, dtype=np.float64)
