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
    """The pruned model with an attention in every layer; it computes the same.

    A removed attention becomes one KV group with one query head, of which every weight is zero, as are those of the
    norms that only it needs: it adds zero to the residual stream. It costs its parameters and its part of the KV cache.

    Args:
        config: config of the dense model.
        family: description of its family, as settled for this config.
        state: weights under the stock parameter names, sliced.
        architecture: sizes that each layer keeps, matching ``state``.

    Returns:
        The weights, and their architecture.
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


def stand_ins_note(architecture: Architecture, written: Architecture) -> tuple[str, ...]:
    """A note on the stand-ins of a folder; empty if it has none.

    Args:
        architecture: architecture of the model.
        written: architecture in the folder.
    """
    if written == architecture:
        return ()
    return (
        f"{_without_attention(architecture)}; the folder has stand-ins: one KV group with one query head, all zero. "
        "They change no result, but count among the parameters, and take as much of the KV cache as any group does",
    )


def vllm_support(base: Any, written: Architecture) -> str:
    """Sentence for the model card: whether vLLM can serve the folder and, if so, with which options.

    Args:
        base: stock class of the model without its output head; None if there is none.
        written: architecture in the folder.
    """
    if base is None:
        return "vLLM does not serve it, as transformers has no class of this model without its output head."
    if not getattr(base, "_supports_attention_backend", False):
        return "vLLM does not serve it, as its attention does not go through the attention functions of transformers."
    if all(layer.kv_groups for layer in written.layers):
        return "vLLM serves it with `--model-impl transformers --trust-remote-code`."
    return (
        f"vLLM does not serve it, as {_without_attention(written)}; with the option `stand_ins` of this target it does."
    )


def _without_attention(architecture: Architecture) -> str:
    without = sum(layer.kv_groups == 0 for layer in architecture.layers)
    return f"{counted(without, 'layer')} {'has' if without == 1 else 'have'} no attention"


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
