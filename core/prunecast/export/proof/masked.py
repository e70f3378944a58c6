"""The dense stock model with removed units masked, which every pruned form of it has to agree with.

It shares no code with the elastic model and the export. Hooks on stock modules set to zero the inputs that the
projections back into the residual stream get from removed heads and channels, and the outputs of these projections
where a whole component is removed.

Notation:
    B, T         rows of a batch, tokens of a row
    KV, H        KV groups of a layer, query heads of each group
    head_dim     width of a head
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from prunecast.architecture.architecture import Architecture, Layer, LayerImportance
from prunecast.models.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def masked(
    model: "PreTrainedModel", family: Family, architecture: Architecture, importance: Sequence[LayerImportance]
) -> Iterator[None]:
    """Make a dense stock model compute an architecture, until the end of the context.

    Args:
        model: the model.
        family: description of its family, which names its layers, their attention, and the projections back.
        architecture: sizes that each layer keeps.
        importance: scores of the units of each layer; those with the highest ones are kept.
    """
    hooks: list[Any] = []
    layers: Any = model.get_submodule(family.layers)
    for layer, kept, scores in zip(layers, architecture.layers, importance, strict=True):
        heads, groups = _kept_heads(kept, scores)
        channels = _highest(scores.mlp_channels, kept.mlp_width)
        for name, units in ((family.output, heads.reshape(-1)), (family.down, channels)):
            hooks += _mask(layer.get_submodule(name), units)
        if not (kept.kv_groups and kept.mlp_width):
            hooks += [each.register_forward_hook(_zero_of_zero) for each in layer.modules() if _is_norm(each)]
        if kept.kv_groups:
            head_dim = layer.get_submodule(family.output).weight.numel() // model.config.hidden_size // heads.size
            hooks += _norms_over_kept_heads(layer.get_submodule(family.attention), heads.reshape(-1), groups, head_dim)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _kept_heads(kept: Layer, scores: LayerImportance) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Masks of the query heads, (KV, H), and of the groups, (KV,), that an attention keeps."""
    groups = _highest(scores.kv_groups, kept.kv_groups)
    heads = np.array([_highest(group, kept.heads_per_group) for group in scores.query_heads])
    return heads & groups[:, None], groups


def _highest(scores: "np.ndarray[Any, Any]", count: int) -> "np.ndarray[Any, Any]":
    """True for the ``count`` units with the highest scores, which all differ."""
    return np.array([int((scores > score).sum()) < count for score in scores], dtype=bool)


def _mask(projection: nn.Module, units: "np.ndarray[Any, Any]") -> Iterator[Any]:
    """Set the inputs of removed units to zero; if none is kept, set the outputs to zero, as they include a bias."""
    if not units.any():
        yield projection.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
        return

    def zero(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept = torch.from_numpy(units).repeat_interleave(inputs[0].shape[-1] // units.size)
        return (inputs[0] * kept, *inputs[1:])

    yield projection.register_forward_pre_hook(zero)


def _is_norm(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and weight.ndim == 1


def _zero_of_zero(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Zeros for an input of zeros, so that a norm after a removed component adds no bias."""
    return output if inputs[0].any() else torch.zeros_like(output)


def _norms_over_kept_heads(
    attention: nn.Module, heads: "np.ndarray[Any, Any]", groups: "np.ndarray[Any, Any]", head_dim: int
) -> Iterator[Any]:
    """Make norms over all queries, or over all keys, normalise over the kept heads alone."""
    of_width = {units.size * head_dim: units for units in (groups, heads) if units.size > 1}
    for norm in attention.modules():
        weight = norm._parameters["weight"] if _is_norm(norm) else None
        if weight is not None and (units := of_width.get(weight.numel())) is not None:
            kept = torch.from_numpy(units).repeat_interleave(head_dim)
            yield norm.register_forward_hook(partial(_over_kept, kept))


def _over_kept(kept: Tensor, norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Output of a norm with mean and mean square of the kept inputs alone; only kept places of it are valid.

    A LayerNorm is computed from its definition. The output of an RMSNorm is rescaled, as the norm divides by the root
    of the mean square, whatever its weight.
    """
    whole = inputs[0]
    if isinstance(norm, nn.LayerNorm):
        centred = whole - whole[..., kept].mean(-1, keepdim=True)
        scale = (centred[..., kept].square().mean(-1, keepdim=True) + norm.eps).rsqrt()
        return centred * scale * norm.weight + (0.0 if norm.bias is None else norm.bias)
    eps: float = getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None) or 0.0
    before = whole.square().mean(-1, keepdim=True) + eps
    after = whole[..., kept].square().mean(-1, keepdim=True) + eps
    return output * (before / after).sqrt()
