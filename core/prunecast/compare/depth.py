"""Architectures without whole layers, which are dropped in an order until the budget is met."""

from collections.abc import Sequence

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Choice, Indices, architectures_at, sizes_at


def before_last(choices: Sequence[Choice], budget: Budget) -> Architecture:
    """The layers before the last one are dropped, as in arXiv 2403.17887, section 4.4; see :func:`without_layers`.

    The last layer goes after all others.
    """
    last = len(budget.shape.dense.layers) - 1
    order = sorted(layer_columns(choices), key=lambda c: (last not in choices[c].layers, choices[c].layers))
    return without_layers(choices, budget, order[::-1])


def without_layers(choices: Sequence[Choice], budget: Budget, order: Sequence[int]) -> Architecture:
    """The first architecture that meets a budget as choices of whole layers are dropped one after the other.

    All else keeps its largest value. If no number of layers is enough, all of them are dropped.

    Args:
        choices: the choices of a space.
        budget: the budget.
        order: columns of the choices of whole layers, the first to be dropped first.
    """
    rows = np.tile(largest_indices(choices), (len(order) + 1, 1))
    for dropped, column in enumerate(order):
        rows[dropped + 1 :, column] = 0
    met = np.flatnonzero(budget.usage(sizes_at(choices, budget.shape.dense, rows)) <= 1)
    chosen = met[0] if len(met) else len(order)
    return architectures_at(choices, budget.shape.dense, rows[chosen : chosen + 1])[0]


def layer_columns(choices: Sequence[Choice]) -> list[int]:
    """Columns of the choices of whole layers."""
    return [column for column, choice in enumerate(choices) if choice.component == "layer"]


def largest_indices(choices: Sequence[Choice]) -> Indices:
    """Indices of the largest value of every choice, shape (C,)."""
    return np.array([len(choice.values) - 1 for choice in choices], dtype=np.int64)
