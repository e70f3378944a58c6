"""From a score for every weight to a score for every unit that pruning can remove."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import LayerImportance
from prunecast.models.families import Family, LayerParts, Projection, layers_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

WeightScore = Callable[["torch.Tensor"], "torch.Tensor"]


def sum_over_units(model: "PreTrainedModel", family: Family, score: WeightScore) -> list[LayerImportance]:
    """Importance of every unit as the sum of a score over the weights that go with it.

    A query head owns its rows of the query and its columns of the output projection; a KV group its rows of the key
    and value projections and all of its query heads; an MLP channel its rows of gate and up and its column of down.
    Biases go with their rows.

    Args:
        model: the dense model.
        family: its description.
        score: maps a parameter to a tensor of its shape.
    """
    groups, _ = family.heads_of(model.config)
    return [_layer_importance(parts, score, groups) for parts in layers_of(model, family)]


def _layer_importance(parts: LayerParts, score: WeightScore, groups: int) -> LayerImportance:
    heads = _rows(parts.query, score) + _columns(parts.output, score)
    query_heads = heads.reshape(groups, -1, parts.head_dim).sum(-1)
    keys_and_values = (_rows(parts.key, score) + _rows(parts.value, score)).reshape(groups, -1).sum(-1)
    channels = sum(_rows(projection, score) for projection in parts.widening) + _columns(parts.down, score)
    return LayerImportance(
        kv_groups=(keys_and_values + query_heads.sum(-1)).cpu().numpy(),
        query_heads=query_heads.cpu().numpy(),
        mlp_channels=channels.cpu().numpy(),
    )


def _rows(projection: Projection, score: WeightScore) -> "torch.Tensor":
    import torch

    rows = where_float64_is(projection.weight(score)).sum(1, dtype=torch.float64)
    bias = projection.bias(score)
    return rows if bias is None else rows + where_float64_is(bias)


def _columns(projection: Projection, score: WeightScore) -> "torch.Tensor":
    import torch

    return where_float64_is(projection.weight(score)).sum(0, dtype=torch.float64)


_HAVE_IT = ("cpu", "cuda")
"""Types of devices that are known to compute in float64."""


def where_float64_is(tensor: "Tensor") -> "Tensor":
    """The tensor, in its own number format, where float64 can be made of it: on its device, else on the CPU."""
    return tensor if tensor.device.type in _HAVE_IT else tensor.cpu()
