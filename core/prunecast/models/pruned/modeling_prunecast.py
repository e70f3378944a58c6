"""Pruned Llama: layers with different numbers of heads and MLP channels, or without attention or MLP.

Written by prunecast; requires only transformers. The forward pass is that of transformers. This file only resizes the
projections of each layer to the sizes listed under ``per_layer_config`` in ``config.json``. A layer without heads has
no attention, and a layer without channels no MLP.
"""
# mypy: ignore-errors

from collections import Counter
from functools import partial
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import Cache, LlamaConfig, LlamaForCausalLM, LlamaModel

# Names of the modules of a layer; a module named for several projections concatenates their outputs in this order.
LAYERS = "model.layers"
ATTENTION = "self_attn"
QUERY = "self_attn.q_proj"
KEY = "self_attn.k_proj"
VALUE = "self_attn.v_proj"
OUTPUT = "self_attn.o_proj"
ATTENTION_NORMS = ("input_layernorm",)
MLP = ("mlp",)
GATE = "mlp.gate_proj"
UP = "mlp.up_proj"
DOWN = "mlp.down_proj"
MLP_NORMS = ("post_attention_layernorm",)
SHARED_NORMS = ()  # removed if the layer has neither attention nor MLP
QUERY_NORM = None  # with weights of single heads
KEY_NORM = None

# Components whose module adds the residual stream, its second argument, itself.
ADDS_RESIDUAL = ()

# Arguments of the attention that hold something for each query head of the dense model.
PER_HEAD = ()

# Config attributes of the number of query heads, of KV groups (None: equal to that of heads), and of MLP channels.
HEADS_ATTRIBUTE = "num_attention_heads"
GROUPS_ATTRIBUTE = "num_key_value_heads"
WIDTH_ATTRIBUTE = "intermediate_size"

# Attributes of an attention module that its forward pass reads, with the size that each has to be set to.
FOLLOWS = {"num_key_value_groups": "heads_per_group"}


@strict
class PrunedLlamaConfig(LlamaConfig):
    """Config of the dense model, with two additional attributes.

    ``per_layer_config`` holds the sizes of each layer, ``output_bias`` the names of the projections back into the
    residual stream that have a bias; None if they have what the dense model has.
    """

    model_type = "prunecast-llama"
    output_bias: list[str] | None = None

    def validate_architecture(self) -> None:
        """Skip the checks: heads need not divide the hidden size, and the number of heads differs between layers."""

    def validate_rope(self) -> None:
        """Skip the checks, for the same reason."""


class TokenCounter(nn.Module):
    """Replacement for a removed attention: adds nothing to the residual stream, and counts tokens in the KV cache."""

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states: Tensor, *others: Any, **named: Any) -> tuple[Tensor, None]:
        """What :func:`nothing` returns, and None for the attention weights."""
        # The cache is found by its type: transformers called this argument past_key_values before 5.24, cache since.
        cache = next((value for value in (*others, *named.values()) if isinstance(value, Cache)), None)
        if cache is not None:
            # Positions and masks are computed from the number of tokens in the cache, often from that of layer 0. Every
            # kind of cache counts entries of one number per token.
            token_count = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
            cache.update(token_count, token_count, self.layer_idx)
        return nothing("attention", hidden_states, others), None


class NoMLP(nn.Module):
    """Replacement for a removed MLP, or for a projection of it: adds nothing to the residual stream."""

    def forward(self, hidden_states: Tensor, *others: Any) -> Tensor:
        """What :func:`nothing` returns."""
        return nothing("mlp", hidden_states, others)


def nothing(component: str, hidden_states: Tensor, others: tuple[Any, ...]) -> Tensor:
    """Zeros of the shape of the input; the residual stream if the component adds it itself."""
    return others[0] if component in ADDS_RESIDUAL else torch.zeros_like(hidden_states)


class OwnConfig:
    """Config of one module: attributes set on this object override those of the model's config."""

    def __init__(self, config: PrunedLlamaConfig) -> None:
        self.shared = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.shared, name)


class Pruned:
    """A model of the stock class that comes next among the bases, with layers of different sizes."""

    def __init__(self, config: PrunedLlamaConfig) -> None:
        sizes = config.to_dict().get("per_layer_config")
        config.per_layer_config = None
        try:
            super().__init__(config)  # creates the dense model
            self._keep_head_count(config)
            dense_heads = getattr(config, HEADS_ATTRIBUTE)
        finally:
            config.per_layer_config = sizes
        layers = LAYERS.removeprefix(f"{self.base_model_prefix}.") if self.base_model is self else LAYERS
        for index, layer in enumerate(self.get_submodule(layers)):
            prune_attention(layer, index, config, dense_heads)
            prune_mlp(layer, index, config)
            if isinstance(layer.get_submodule(ATTENTION), TokenCounter) and has_no_mlp(layer):
                replace(layer, dict.fromkeys(SHARED_NORMS, nn.Identity()))
        self.post_init()

    def _keep_head_count(self, config: PrunedLlamaConfig) -> None:
        # Some rotary embeddings divide by the number of heads, even if the config specifies the width of a head.
        for module in self.modules():
            if hasattr(module, "rope_type"):
                module.config = OwnConfig(config)
                for name in (HEADS_ATTRIBUTE, "head_dim"):
                    if getattr(config, name, None) is not None:
                        setattr(module.config, name, getattr(config, name))

    def _get_static_cache_init_shape(self) -> None:
        """None, so that static caches take their shapes from the first tokens: those of a ``TokenCounter`` differ."""


class PrunedLlamaForCausalLM(Pruned, LlamaForCausalLM):
    """Causal language model with layers of different sizes."""

    config: PrunedLlamaConfig


class PrunedLlamaModel(Pruned, LlamaModel):
    """The same without its output head."""

    config: PrunedLlamaConfig


def prune_attention(layer: nn.Module, index: int, config: PrunedLlamaConfig, dense_heads: int) -> None:
    """Resize the attention of a layer to its number of heads, or remove it."""
    sizes = config.per_layer_config[index]
    heads = getattr(sizes, HEADS_ATTRIBUTE)
    if heads == 0:
        replace(layer, dict.fromkeys(ATTENTION_NORMS, nn.Identity()) | {ATTENTION: TokenCounter(index)})
        return
    groups = heads if GROUPS_ATTRIBUTE is None else getattr(sizes, GROUPS_ATTRIBUTE)
    attention = layer.get_submodule(ATTENTION)
    head_dim = layer.get_submodule(OUTPUT).weight.numel() // config.hidden_size // dense_heads
    width, group_width = heads * head_dim, groups * head_dim
    resize(layer, [(QUERY, width), (KEY, group_width), (VALUE, group_width)], OUTPUT, config)
    amounts = {"query_heads": heads, "kv_groups": groups, "heads_per_group": heads // groups, "query_width": width}
    if any(attribute.startswith("config.") for attribute in FOLLOWS):
        attention.config = OwnConfig(config)
    for attribute, amount in FOLLOWS.items():
        owner = attention.config if attribute.startswith("config.") else attention
        setattr(owner, attribute.removeprefix("config."), amounts[amount])
    for name, count in ((QUERY_NORM, heads), (KEY_NORM, groups)):
        if name is not None and name in dict(layer.named_modules()):
            resize_norm(layer.get_submodule(name), count, head_dim)
    if PER_HEAD:
        attention.register_buffer("kept_heads", torch.zeros(heads, dtype=torch.int64))
        attention.register_forward_pre_hook(partial(keep_heads, dense_heads), with_kwargs=True)


def resize_norm(norm: nn.Module, heads: int, head_dim: int) -> None:
    """Resize a norm whose weights belong to single heads: its parameters, or the number of norms in its list."""
    for child in norm.children():
        if isinstance(child, nn.ModuleList):
            child._modules = dict(list(child._modules.items())[:heads])
    for name, weight in list(norm.named_parameters(recurse=False)):
        shape = (heads * head_dim,) if weight.ndim == 1 else (heads, *weight.shape[1:])
        setattr(norm, name, nn.Parameter(weight.new_zeros(shape)))
        if isinstance(norm, nn.LayerNorm):
            norm.normalized_shape = shape


def keep_heads(dense_heads: int, attention: nn.Module, positional: Any, named: dict[str, Any]) -> Any:
    """Cut the arguments that hold something for each head to the heads that the attention has."""
    for name in PER_HEAD:
        whole, kept = named.get(name), attention.kept_heads
        if isinstance(whole, Tensor) and whole.ndim == 4 and whole.shape[1] == dense_heads:
            named[name] = whole[:, kept]
        elif isinstance(whole, Tensor) and whole.ndim < 4 and whole.shape[0] % dense_heads == 0:
            named[name] = whole.unflatten(0, (-1, dense_heads))[:, kept].flatten(0, 1)
    return positional, named


def prune_mlp(layer: nn.Module, index: int, config: PrunedLlamaConfig) -> None:
    """Resize the MLP of a layer to its number of channels, or remove it."""
    width = getattr(config.per_layer_config[index], WIDTH_ATTRIBUTE)
    if width == 0:
        replace(layer, dict.fromkeys(MLP_NORMS, nn.Identity()) | {name: NoMLP() for name in MLP})
        return
    resize(layer, [(name, width) for name in (GATE, UP) if name is not None], DOWN, config)


def has_no_mlp(layer: nn.Module) -> bool:
    """True if the MLP of a layer has been removed."""
    return isinstance(layer.get_submodule(MLP[0]), NoMLP)


def resize(layer: nn.Module, outputs: list[tuple[str, int]], back: str, config: PrunedLlamaConfig) -> None:
    """Resize projections to their numbers of outputs, and ``back``, the one that reads the outputs of the first."""
    rows = Counter()
    for name, count in outputs:
        rows[name] += count
    for name, count in rows.items():
        dense = layer.get_submodule(name)
        layer.set_submodule(name, projection(dense, config.hidden_size, count, bias=dense.bias is not None))
    dense = layer.get_submodule(back)
    biased = dense.bias is not None if config.output_bias is None else back in config.output_bias
    layer.set_submodule(back, projection(dense, outputs[0][1], config.hidden_size, bias=biased))


def projection(dense: nn.Module, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
    """A projection of the same type as ``dense``, with other sizes."""
    if isinstance(dense, nn.Linear):
        return type(dense)(inputs, outputs, bias)
    return type(dense)(outputs, inputs)  # a Conv1D, which always has a bias


def replace(layer: nn.Module, stand_ins: dict[str, nn.Module]) -> None:
    """Replace modules of a layer by name."""
    for name, module in stand_ins.items():
        layer.set_submodule(name, module)
