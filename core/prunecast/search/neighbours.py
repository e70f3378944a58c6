"""Looking around: what steps from the best pairs would change, estimated from one forward and a few backward passes.

A step takes one choice from the value it has to another one. From a random pair a predictor learns what fifty choices
do together; from the steps around a pair it knows what each of them does by itself, there where the search goes on, for
the price of some evaluations (:mod:`prunecast.models.sensitivity`).
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats, Layer
from prunecast.architecture.choices import Choice, Indices, architectures_at, indices_of
from prunecast.measure.measure import Measuring
from prunecast.measure.setup import Setup
from prunecast.plugins.interfaces import SearchSpace
from prunecast.predict.taylor_expansion import Expansion, Steps
from prunecast.problem.objective import Metrics
from prunecast.search.search import ranked

EVALUATIONS = 14
"""What the steps around one architecture cost, in evaluations: timed on SmolLM2-135M, 25 layers of 4 and 19 values."""

Moved = list[tuple[int, Layer]]
"""The layers that a step changes, and what each keeps then."""


def look_around(
    setup: Setup,
    space: SearchSpace[Any],
    measuring: Measuring,
    pairs: Mapping[Architecture, Metrics],
    seen: Collection[Architecture],
) -> dict[Architecture, Expansion]:
    """Expansions around ``spec.neighbours`` of the best pairs within the budget.

    Args:
        setup: the set-up.
        space: its space, refined if it was.
        measuring: what measures.
        pairs: everything measured.
        seen: architectures that have been looked around already; the next best take their turn.
    """
    found: dict[Architecture, Expansion] = {}
    for centre in ranked(setup, pairs):
        if len(found) == setup.spec.neighbours:
            break
        row = None if centre in seen else indices_of(space.choices, space.shape.dense, centre)
        if row is not None:
            found[centre] = _expansion(setup, space, measuring, centre, pairs[centre], row)
    return found


def steps_of(choice: Choice, position: int) -> list[int]:
    """Positions of the values to be estimated: 1, 2, 4, ... steps away from ``position``, and both ends."""
    top = len(choice.values) - 1
    away = {position + sign * 2**doubling for doubling in range(top.bit_length()) for sign in (-1, 1)}
    return sorted({0, top, *(to for to in away if 0 <= to <= top)} - {position})


def _expansion(
    setup: Setup,
    space: SearchSpace[Any],
    measuring: Measuring,
    centre: Architecture,
    measured: Metrics,
    row: Indices,
) -> Expansion:
    moved = [
        {to: _moved(space, centre, row, place, to) for to in steps_of(choice, int(row[place]))}
        for place, choice in enumerate(space.choices)
    ]
    found = measuring.steps(centre, {step for of_choice in moved for several in of_choice.values() for step in several})
    nothing = np.zeros((2, len(found)))

    def change(several: Moved) -> Floats:
        changes: Floats = np.sum([[of_metric[step] for of_metric in found] for step in several], axis=0).T
        return changes

    steps = [
        Steps.of(choice, {int(row[place]): nothing} | {to: change(several) for to, several in moved[place].items()})
        for place, choice in enumerate(space.choices)
    ]
    return Expansion(centre, setup.objective.targets([measured])[0], steps)


def _moved(space: SearchSpace[Any], centre: Architecture, row: Indices, place: int, to: int) -> Moved:
    """What differs from the centre, at ``row``, if one choice takes another value."""
    other = row.copy()
    other[place] = to
    (changed,) = architectures_at(space.choices, space.shape.dense, other[None])
    layers = enumerate(zip(centre.layers, changed.layers, strict=True))
    return [(index, kept) for index, (before, kept) in layers if kept != before]
