"""Importance of the units that pruning can remove, from a score for every weight.

Notation:
    KV           KV groups of a layer
    H            query heads per KV group
    W            MLP channels of a layer
    D_in, D_out  inputs and outputs of a projection

Scores are summed in float64, on the CPU if the device of the model does not support float64.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import LayerImportance
from prunecast.models.families.family import Family
from prunecast.models.families.layer_parts import LayerParts, Projection, layers_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

WeightScore = Callable[["torch.Tensor"], "torch.Tensor"]
"""Maps a parameter to scores, a tensor of its shape."""

_FLOAT64_DEVICES = ("cpu", "cuda")
"""Types of devices known to support float64."""


def where_float64_is(tensor: "Tensor") -> "Tensor":
    """The tensor, in its own dtype, on a device that supports float64: its own if possible, else the CPU."""
    return tensor if tensor.device.type in _FLOAT64_DEVICES else tensor.cpu()


def sum_over_units(model: "PreTrainedModel", family: Family, score: WeightScore) -> list[LayerImportance]:
    """Importance of every unit as the sum of a score over the weights removed with it.

    A query head owns its rows of the query and its columns of the output projection; a KV group its rows of the key
    and value projections and all of its query heads; an MLP channel its rows of gate and up and its column of down.
    Rows include their biases.

    Args:
        model: the dense model.
        family: description of its family.
        score: maps a parameter to a tensor of its shape.

    Returns:
        One entry per layer, float64: ``kv_groups`` (KV,), ``query_heads`` (KV, H), ``mlp_channels`` (W,).
    """
    return [_layer_importance(parts, score) for parts in layers_of(model, family)]


def _layer_importance(parts: LayerParts, score: WeightScore) -> LayerImportance:
    groups, per_group, _ = parts.sizes
    heads = _rows(parts.query, score) + _columns(parts.output, score)
    query_heads = heads.reshape(groups, per_group, parts.head_dim).sum(-1)
    keys_and_values = (_rows(parts.key, score) + _rows(parts.value, score)).reshape(groups, parts.head_dim).sum(-1)
    channels = sum(_rows(projection, score) for projection in parts.widening) + _columns(parts.down, score)
    return LayerImportance(
        kv_groups=(keys_and_values + query_heads.sum(-1)).cpu().numpy(),
        query_heads=query_heads.cpu().numpy(),
        mlp_channels=channels.cpu().numpy(),
    )


def _rows(projection: Projection, score: WeightScore) -> "torch.Tensor":
    """Sum of the scores of each output's weights and bias, float64 of shape (D_out,)."""
    import torch

    rows = where_float64_is(projection.weight(score)).sum(1, dtype=torch.float64)
    bias = projection.bias(score)
    return rows if bias is None else rows + where_float64_is(bias)


def _columns(projection: Projection, score: WeightScore) -> "torch.Tensor":
    """Sum of the scores of each input's weights, float64 of shape (D_in,)."""
    import torch

    return where_float64_is(projection.weight(score)).sum(0, dtype=torch.float64)
