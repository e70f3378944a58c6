"""Choices, and the arithmetic between positions in their value lists and architectures.

A search works on *indices*: an integer array of shape (N, C) that names, for N architectures and C choices, the
position of the value each choice takes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Sizes, sizes_of
from prunecast.architecture.shape import ModelShape, Quantity

Indices = NDArray[np.int64]
Component = Literal["attention", "mlp"]
Value = tuple[int, ...]
"""(KV groups, heads per group) for attention, (width,) for the MLP."""

COLUMNS: dict[Component, slice] = {"attention": slice(0, 2), "mlp": slice(2, 3)}
"""Where sizes, (N, L, 3), have what a component keeps."""


@dataclass(frozen=True)
class Choice:
    """One decision: what the given layers keep of one component.

    Attributes:
        component: ``attention`` or ``mlp``.
        layers: the layers that take the same value, in ascending order; one unless layers are tied.
        values: what may be kept, ascending by size and without repetition.
    """

    component: Component
    layers: tuple[int, ...]
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """Readable identity, e.g. ``mlp.3`` or ``attention.4-7``."""
        span = f"{self.layers[0]}" if len(self.layers) == 1 else f"{self.layers[0]}-{self.layers[-1]}"
        return f"{self.component}.{span}"


def sizes_at(choices: Sequence[Choice], dense: Architecture, indices: Indices) -> Sizes:
    """Sizes, shape (N, L, 3), of the architectures at ``indices``; what no choice covers stays dense."""
    sizes = np.repeat(sizes_of([dense]), len(indices), axis=0)
    for column, choice in enumerate(choices):
        values = np.array(choice.values, dtype=np.int64)[indices[:, column]]
        sizes[:, choice.layers, COLUMNS[choice.component]] = values[:, None, :]
    return sizes


def architectures_at(choices: Sequence[Choice], dense: Architecture, indices: Indices) -> list[Architecture]:
    """Architectures at ``indices``."""
    return Architecture.from_sizes(sizes_at(choices, dense, indices))


def indices_of(choices: Sequence[Choice], dense: Architecture, architecture: Architecture) -> Indices | None:
    """Indices, shape (C,), whose architecture is the given one; None if the choices cannot express it."""
    row = np.zeros(len(choices), dtype=np.int64)
    for column, choice in enumerate(choices):
        kept = tuple(architecture.layers[choice.layers[0]])[COLUMNS[choice.component]]
        if kept not in choice.values:
            return None
        row[column] = choice.values.index(kept)
    return row if architectures_at(choices, dense, row[None]) == [architecture] else None


def value_costs(choices: Sequence[Choice], shape: ModelShape, quantity: Quantity) -> list[NDArray[np.int64]]:
    """What each value of each choice costs in ``quantity``, summed over the choice's layers: C arrays of shape (V,)."""
    costs = []
    for choice in choices:
        sizes = np.zeros((len(choice.values), 1, 3), dtype=np.int64)
        sizes[:, 0, COLUMNS[choice.component]] = choice.values
        attention, mlp = shape.component_costs(sizes, quantity)
        costs.append((attention + mlp)[:, 0] * len(choice.layers))
    return costs


def cut_rates(choice: Choice, dense: Architecture) -> NDArray[np.float64]:
    """Share of the query heads or of the MLP width that each value of a choice removes, shape (V,), in [0, 1]."""
    full = math.prod(tuple(dense.layers[choice.layers[0]])[COLUMNS[choice.component]])
    return 1 - np.array([math.prod(value) for value in choice.values]) / full


def ascending(values: Iterable[Value]) -> tuple[Value, ...]:
    """Different values of one component by size: by what they keep, then by KV groups."""
    return tuple(sorted(set(values), key=lambda value: (math.prod(value), value)))


def switch_levels(row: Indices, choices: Sequence[Choice], rng: np.random.Generator) -> None:
    """Lower one choice of ``row``, shape (C,), by a step and raise another that costs the same, in place.

    The mutation of EvoPress (arXiv 2410.14649, section 3). Of equal cost are choices of one component with the same
    values and as many layers. Nothing changes if the choice drawn first has no such other that can be raised.
    """
    lowerable = np.flatnonzero(row > 0)
    if not len(lowerable):
        return
    lower = rng.choice(lowerable)
    raisable = [
        other
        for other, choice in enumerate(choices)
        if other != lower and row[other] + 1 < len(choice.values) and _cost_alike(choice, choices[lower])
    ]
    if raisable:
        row[lower] -= 1
        row[rng.choice(raisable)] += 1


def shift_level(row: Indices, choices: Sequence[Choice], rng: np.random.Generator) -> None:
    """Move one choice of ``row``, shape (C,), a step up or down, in place; the budget has to be met again afterwards.

    Levels of attention and of MLPs cost differently, so only this moves what is kept from one to the other.
    """
    choice = int(rng.integers(len(choices)))
    row[choice] = np.clip(row[choice] + rng.choice([-1, 1]), 0, len(choices[choice].values) - 1)


def _cost_alike(one: Choice, other: Choice) -> bool:
    return (one.component, one.values, len(one.layers)) == (other.component, other.values, len(other.layers))
