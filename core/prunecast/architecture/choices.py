"""Choices of a search space, and the conversion between their indices and architectures.

A search works on *indices*: for each architecture and choice the position of the value that the choice takes.

Notation:
    N        number of architectures
    C        number of choices
    L        number of layers of the dense model
    V        number of values of one choice
    indices  positions of the chosen values, int64 of shape (N, C), each in [0, V)
    sizes    KV groups, heads per group and MLP width of each layer, int64 of shape (N, L, 3)
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Layer, Sizes, sizes_of
from prunecast.architecture.shape import ModelShape, Quantity

Indices = NDArray[np.int64]
Component = Literal["attention", "mlp"]
Value = tuple[int, ...]
"""(KV groups, heads per group) for attention, (width,) for the MLP, (0,) or (1,) for a whole layer."""

COLUMNS: dict[Component, slice] = {"attention": slice(0, 2), "mlp": slice(2, 3)}
"""Columns of the last axis of sizes, shape (N, L, 3), that belong to each component."""

WHOLE_LAYERS: tuple[Value, ...] = ((0,), (1,))
"""Values of a choice of whole layers: they are gone, or there."""


@dataclass(frozen=True)
class Choice:
    """One variable of the search space: the size of one component in one layer or in several tied layers.

    A choice of whole layers applies after the others: of a layer that is gone, nothing is left, whatever they say.

    Attributes:
        component: ``attention``, ``mlp``, or ``layer`` for whole layers.
        layers: indices of the layers that take the same value, ascending; a single one unless layers are tied.
        values: the allowed sizes, ascending and without repetition; of whole layers, ``(0,)`` and ``(1,)``.
    """

    component: Component | Literal["layer"]
    layers: tuple[int, ...]
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """Readable name, e.g. ``mlp.3`` or ``attention.4-7``."""
        span = f"{self.layers[0]}" if len(self.layers) == 1 else f"{self.layers[0]}-{self.layers[-1]}"
        return f"{self.component}.{span}"


def sizes_at(choices: Sequence[Choice], dense: Architecture, indices: Indices) -> Sizes:
    """Sizes, shape (N, L, 3), of the architectures at ``indices``; components without a choice stay dense."""
    sizes = np.repeat(sizes_of([dense]), len(indices), axis=0)
    there = np.ones_like(sizes[..., :1])
    for column, choice in enumerate(choices):
        values = np.array(choice.values, dtype=np.int64)[indices[:, column]]
        decided = there if choice.component == "layer" else sizes[..., COLUMNS[choice.component]]
        decided[:, choice.layers] = values[:, None, :]
    return sizes * there


def architectures_at(choices: Sequence[Choice], dense: Architecture, indices: Indices) -> list[Architecture]:
    """Architectures at ``indices``."""
    return Architecture.from_sizes(sizes_at(choices, dense, indices))


def indices_of(choices: Sequence[Choice], dense: Architecture, architecture: Architecture) -> Indices | None:
    """Indices of one architecture, shape (C,); None if the choices cannot express it.

    A choice of which all layers are gone makes no difference: it takes its largest value.
    """
    sizes = sizes_of([architecture])
    gone = gone_layers(choices, sizes)
    row = np.zeros(len(choices), dtype=np.int64)
    for column, choice in enumerate(choices):
        if is_idle(choice, gone)[0]:
            row[column] = len(choice.values) - 1
            continue
        value = tuple(values_in(choice, sizes, gone)[0].tolist())
        if value not in choice.values:
            return None
        row[column] = choice.values.index(value)
    return row if architectures_at(choices, dense, row[None]) == [architecture] else None


def gone_layers(choices: Sequence[Choice], sizes: Sizes) -> NDArray[np.bool_]:
    """Layers that choices of whole layers have taken from architectures of ``sizes`` (N, L, 3): shape (N, L)."""
    gone = np.zeros(sizes.shape[:2], dtype=bool)
    for choice in choices:
        if choice.component == "layer":
            gone[:, choice.layers] = (sizes[:, choice.layers] == 0).reshape(len(sizes), -1).all(axis=1, keepdims=True)
    return gone


def is_idle(choice: Choice, gone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True where a choice of components makes no difference, as all its layers are ``gone`` (N, L): shape (N,)."""
    return np.asarray(gone[:, choice.layers].all(axis=1) & (choice.component != "layer"))


def values_in(choice: Choice, sizes: Sizes, gone: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The value that a choice takes in architectures, read from its first layer that is there: shape (N, len(value)).

    Args:
        choice: the choice.
        sizes: sizes of the architectures, shape (N, L, 3).
        gone: layers that choices of whole layers have taken, shape (N, L).
    """
    layers = np.array(choice.layers)
    if choice.component == "layer":
        there = (sizes[:, layers] > 0).reshape(len(sizes), -1).any(axis=1, keepdims=True)
        return np.asarray(there, dtype=np.int64)
    first = layers[gone[:, layers].argmin(axis=1)]
    return sizes[np.arange(len(sizes)), first, COLUMNS[choice.component]]


def largest(component: Component | Literal["layer"], dense: Layer) -> Value:
    """The largest value that a choice of a component can have in a layer of these dense sizes."""
    return WHOLE_LAYERS[1] if component == "layer" else tuple(dense)[COLUMNS[component]]


def value_costs(choices: Sequence[Choice], shape: ModelShape, quantity: Quantity) -> list[NDArray[np.int64]]:
    """Cost in ``quantity`` of each value of each choice, summed over the choice's layers: C arrays of shape (V,).

    As in :meth:`~prunecast.architecture.shape.ModelShape.component_costs`, without what components share. Whole layers
    have the cost of the dense ones.
    """
    costs = []
    for choice in choices:
        values = np.array(choice.values, dtype=np.int64)[:, None]
        sizes = np.zeros((len(choice.values), len(choice.layers), 3), dtype=np.int64)
        if choice.component == "layer":
            sizes[:] = values * sizes_of([shape.dense])[:, choice.layers]
        else:
            sizes[..., COLUMNS[choice.component]] = values
        attention, mlp = shape.component_costs(sizes, quantity, choice.layers)
        costs.append((attention + mlp).sum(axis=1))
    return costs


def cut_rates(choice: Choice, dense: Architecture) -> NDArray[np.float64]:
    """Fraction of the query heads, MLP width or layers that each value of a choice removes: shape (V,), in [0, 1]."""
    full = math.prod(largest(choice.component, dense.layers[choice.layers[0]]))
    kept = np.array([math.prod(value) for value in choice.values])
    return 1 - kept / full if full else np.zeros(len(kept))


def ascending(values: Iterable[Value]) -> tuple[Value, ...]:
    """Distinct values of one component, ascending by query heads or MLP width, then by KV groups."""
    return tuple(sorted(set(values), key=lambda value: (math.prod(value), value)))


def switch_levels(row: Indices, choices: Sequence[Choice], rng: np.random.Generator) -> None:
    """Lower one choice of ``row``, shape (C,), by one level and raise another of the same cost by one, in place.

    This is the mutation of EvoPress (arXiv 2410.14649, section 3). Two choices have the same cost if they have the
    same component, the same values and the same number of layers; whole layers have it only where layers are alike, so
    the budget must be restored afterwards. The row does not change if no choice of the same cost as the one drawn for
    lowering can be raised.
    """
    lowerable = np.flatnonzero(row > 0)
    if not len(lowerable):
        return
    lower = rng.choice(lowerable)
    raisable = [
        other
        for other, choice in enumerate(choices)
        if other != lower and row[other] + 1 < len(choice.values) and _same_cost(choice, choices[lower])
    ]
    if raisable:
        row[lower] -= 1
        row[rng.choice(raisable)] += 1


def shift_level(row: Indices, choices: Sequence[Choice], rng: np.random.Generator) -> None:
    """Move one choice of ``row``, shape (C,), one level up or down, in place; the budget must be restored afterwards.

    Levels of attention and of MLPs differ in cost, so only this mutation, and not :func:`switch_levels`, can shift
    parameters from one component to the other.
    """
    choice = int(rng.integers(len(choices)))
    row[choice] = np.clip(row[choice] + rng.choice([-1, 1]), 0, len(choices[choice].values) - 1)


def _same_cost(one: Choice, other: Choice) -> bool:
    return (one.component, one.values, len(one.layers)) == (other.component, other.values, len(other.layers))
