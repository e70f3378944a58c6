"""Architectures of a small model that a proof computes: every kept count of every part, and removed components."""

from collections.abc import Iterator
from itertools import product
from math import ceil

from prunecast.architecture.architecture import Architecture, Layer

ROLES = 4
"""Number of roles that a layer can have: both components, no attention, no MLP, neither."""


def with_components_removed(dense: Architecture) -> Iterator[Architecture]:
    """Every layer in every role, with its neighbours in other roles; then the same role in all layers."""
    for turn in range(ROLES):
        yield Architecture([_in_role(layer, index + turn) for index, layer in enumerate(dense.layers)])
    for role in range(ROLES):
        yield Architecture([_in_role(layer, role) for layer in dense.layers])


def _in_role(layer: Layer, number: int) -> Layer:
    attention, mlp = divmod(number % ROLES, 2)
    kept = (0, 0) if attention else layer[:2]
    return Layer(*kept, 0 if mlp else layer.mlp_width)


def every_count(dense: Architecture) -> Iterator[Architecture]:
    """Mixed architectures in which every layer has every number of groups and of heads per group, none to all.

    Each number of channels occurs in one of the layers.
    """
    depth, widest = len(dense.layers), max(layer.mlp_width for layer in dense.layers)
    options = [_attentions(layer) for layer in dense.layers]
    step = ceil((widest + 1) / depth)
    for turn in range(max(step, *map(len, options))):
        yield Architecture(
            [
                Layer(
                    *options[index][(turn + index) % len(options[index])],
                    (turn + index * step) % (layer.mlp_width + 1),
                )
                for index, layer in enumerate(dense.layers)
            ]
        )


def uniform(dense: Architecture, with_heads: bool, with_width: bool) -> Iterator[Architecture]:
    """Architectures whose layers have the same sizes, with both components.

    Args:
        dense: the dense architecture; its layers have the same sizes.
        with_heads: True for every number of groups and heads, False for the dense ones.
        with_width: True for other numbers of channels, False for the dense one.
    """
    layer = dense.layers[0]
    attentions = _attentions(layer)[1:] if with_heads else [(layer.kv_groups, layer.heads_per_group)]
    widths = [1 + number * (layer.mlp_width - 1) // 4 for number in range(5)] if with_width else [layer.mlp_width]
    for turn in range(max(len(attentions), len(widths))):
        kept = Layer(*attentions[turn % len(attentions)], widths[turn % len(widths)])
        yield Architecture([kept] * len(dense.layers))


def _attentions(layer: Layer) -> list[tuple[int, int]]:
    """Groups and heads per group that a layer can keep, none first."""
    return [(0, 0), *product(range(1, layer.kv_groups + 1), range(1, layer.heads_per_group + 1))]
