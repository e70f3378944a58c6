"""Stand-ins for removed attentions, for engines that need an attention in every layer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Layer, LayerImportance
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import model_without_weights, shape_of
from prunecast.models.pruned.classes import as_stock
from prunecast.text import counted

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig


def with_stand_ins(
    config: "PreTrainedConfig", family: Family, state: "Mapping[str, Tensor]", architecture: Architecture
) -> "tuple[dict[str, Tensor], Architecture]":
    """A pruned model with an attention in every layer, which computes the same.

    A removed attention becomes one KV group with one query head, of which every weight is zero, as are those of the
    norms that only it needs: it adds zero to the residual stream. It costs its parameters and its part of the KV cache.

    Args:
        config: config of the dense model.
        family: description of its family, as settled for this config.
        state: weights under the stock parameter names, sliced.
        architecture: sizes that each layer keeps, matching ``state``.

    Returns:
        The weights, and the architecture that they are of.
    """
    import torch

    filled = Architecture([layer if layer.kv_groups else Layer(1, 1, layer.mlp_width) for layer in architecture.layers])
    dtype = next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())
    missing = {name: part for name, part in _sizes(config, family, filled).items() if name not in state}
    zeros = {
        name: torch.zeros(part.shape, dtype=dtype if part.is_floating_point() else part.dtype)
        for name, part in missing.items()
    }
    return {**state, **zeros}, filled


def vllm_told(base: Any, architecture: Architecture, written: Architecture) -> str:
    """Whether vLLM serves a folder, and how, for the model card.

    Args:
        base: stock class of the model without its output head; None if there is none.
        architecture: architecture of the model.
        written: architecture in the folder, with stand-ins or without.
    """
    if not getattr(base, "_supports_attention_backend", False):
        return "vLLM does not serve it, as its attention does not go through the attention functions of transformers."
    gone = sum(layer.kv_groups == 0 for layer in architecture.layers)
    layers = f"{counted(gone, 'layer')} of it {'has' if gone == 1 else 'have'} no attention"
    if gone and written == architecture:
        return f"vLLM does not serve it, as {layers}. An export with stand-ins for them does."
    told = "vLLM serves it with `--model-impl transformers --trust-remote-code`."
    if gone:
        told += (
            f" As it needs an attention in every layer, and {layers}, the folder has stand-ins: one KV group with one "
            "query head, all zero. They change no result, but they count among the parameters, and they take as much "
            "of the KV cache as any group does."
        )
    return told


def _sizes(config: "PreTrainedConfig", family: Family, architecture: Architecture) -> "dict[str, Tensor]":
    """Weights of an architecture under the stock names, on the meta device."""
    from prunecast.models.elastic import ElasticModel

    stock = as_stock(config)
    shape = shape_of(stock, family)
    alike = [
        LayerImportance(np.zeros(groups), np.zeros((groups, heads)), np.zeros(width))
        for groups, heads, width in shape.dense.layers
    ]
    elastic = ElasticModel(model_without_weights(stock), family, shape, alike)
    elastic.apply(architecture)
    return elastic.state_dict()
