"""Looking around: what the neighbours of the best pairs would measure, estimated from one backward pass each.

Neighbours take one choice one step away. From a random pair a predictor learns what fifty choices do together; from the
neighbours of a pair it learns what each of them does by itself, there where the search goes on, for the price of a few
evaluations (:mod:`prunecast.models.slopes`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from prunecast.architecture import Architecture, Layer
from prunecast.choices import architectures_at, indices_of
from prunecast.interfaces import SearchSpace
from prunecast.pipeline.measure import Measuring, Metrics
from prunecast.pipeline.search import ranked
from prunecast.pipeline.setup import Setup

EVALUATIONS = 9
"""What the neighbours of one architecture cost, in evaluations of it: timed on SmolLM2-135M, two choices a layer."""


def look_around(
    setup: Setup,
    space: SearchSpace[Any],
    measuring: Measuring,
    pairs: Mapping[Architecture, Metrics],
    seen: Collection[Architecture],
) -> dict[Architecture, dict[Architecture, Metrics]]:
    """Estimated metrics of the neighbours of ``spec.neighbours`` of the best pairs within the budget.

    Args:
        setup: the set-up.
        space: its space, refined if it was.
        measuring: what measures.
        pairs: everything measured.
        seen: architectures that have been looked around already; the next best take their turn.

    Returns:
        By architecture, the metrics of each of its neighbours.
    """
    estimated: dict[Architecture, dict[Architecture, Metrics]] = {}
    for centre in ranked(setup, pairs):
        if len(estimated) == setup.spec.neighbours:
            break
        around = neighbours(space, centre) if centre not in seen else []
        if around:
            estimated[centre] = _estimated(setup, measuring, centre, pairs[centre], around)
    return estimated


def neighbours(space: SearchSpace[Any], centre: Architecture) -> list[Architecture]:
    """Architectures of the space that take one choice one step away from ``centre``; none if that is not of it."""
    row = indices_of(space.choices, space.shape.dense, centre)
    if row is None:
        return []
    moved = np.concatenate([row + step * np.eye(len(row), dtype=np.int64) for step in (-1, 1)])
    tops = np.array([len(choice.values) for choice in space.choices])
    return architectures_at(space.choices, space.shape.dense, moved[((moved >= 0) & (moved < tops)).all(axis=1)])


def _estimated(
    setup: Setup, measuring: Measuring, centre: Architecture, measured: Metrics, around: Sequence[Architecture]
) -> dict[Architecture, Metrics]:
    """The metrics of ``centre``, and what each neighbour changes of them."""
    steps = [_steps(centre, neighbour) for neighbour in around]
    slopes = measuring.slopes(centre, {step for several in steps for step in several})
    changes = np.array([[sum(of_metric[step] for step in several) for of_metric in slopes] for several in steps])
    targets = setup.objective.targets([measured]) + changes
    return dict(zip(around, setup.objective.metrics_of(targets), strict=True))


def _steps(centre: Architecture, neighbour: Architecture) -> list[tuple[int, Layer]]:
    """The layers that differ, and what they keep."""
    layers = enumerate(zip(centre.layers, neighbour.layers, strict=True))
    return [(index, kept) for index, (before, kept) in layers if kept != before]
