"""A Llama whose layers keep different numbers of heads and channels, or have no attention or no MLP at all.

Written by prunecast. Needs transformers only. The forward pass is the one of transformers; this file only gives the
projections of each layer the sizes that ``per_layer_config`` in ``config.json`` lists. A layer without heads has no
attention, a layer without channels has no MLP.
"""
# mypy: ignore-errors

from collections import Counter
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

# Where the parts of a layer are; a module that is named for several holds their outputs one after the other.
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

# What the config calls the number of query heads, of KV groups (None: as many), and of channels.
HEADS_ATTRIBUTE = "num_attention_heads"
GROUPS_ATTRIBUTE = "num_key_value_heads"
WIDTH_ATTRIBUTE = "intermediate_size"

# Attributes of an attention module that its forward pass reads, and what they have to be.
FOLLOWS = {"num_key_value_groups": "heads_per_group"}


@strict
class PrunedLlamaConfig(LlamaConfig):
    """Config of the dense model, with ``per_layer_config`` for what is left of each layer.

    ``output_bias`` names the projections back into the residual stream that have a bias.
    """

    model_type = "prunecast-llama"

    def validate_architecture(self) -> None:
        """Nothing to check: heads need not divide the hidden size, and the model has no number of heads as a whole."""

    def validate_rope(self) -> None:
        """Nothing to check, for the same reason."""


class TokenCounter(nn.Module):
    """Stands where an attention is gone: adds zero to the residual stream, but still counts tokens in the cache."""

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states: Tensor, past_key_values: Any = None, **_: Any) -> tuple[Tensor, None]:
        """A zero that broadcasts over (B, T, D), and no attention weights."""
        if past_key_values is not None:
            # Positions and masks are made from the number of tokens in the cache, often that of layer 0. One number a
            # token is the least that every kind of cache counts.
            token_count = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
            past_key_values.update(token_count, token_count, self.layer_idx)
        return hidden_states.new_zeros(()), None


class NoMLP(nn.Module):
    """Stands where an MLP, or a projection of it, is gone: adds zero to the residual stream."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """A zero that broadcasts over (B, T, D)."""
        return hidden_states.new_zeros(())


class OwnConfig:
    """The model's config as one module reads it: attributes set on this object come first."""

    def __init__(self, config: PrunedLlamaConfig) -> None:
        self.shared = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.shared, name)


class PrunedLlamaForCausalLM(LlamaForCausalLM):
    """Causal language model with layers of different sizes."""

    config: PrunedLlamaConfig

    def __init__(self, config: PrunedLlamaConfig) -> None:
        sizes = config.to_dict().get("per_layer_config")
        config.per_layer_config = None
        try:
            super().__init__(config)  # the dense model
            self._keep_head_count(config)
        finally:
            config.per_layer_config = sizes
        for index, layer in enumerate(self.get_submodule(LAYERS)):
            prune_attention(layer, index, config)
            prune_mlp(layer, index, config)
        self.post_init()

    def _keep_head_count(self, config: PrunedLlamaConfig) -> None:
        # Some rotary embeddings divide by the number of heads, even where the config has the width of a head.
        for module in self.modules():
            if hasattr(module, "rope_type"):
                module.config = OwnConfig(config)
                setattr(module.config, HEADS_ATTRIBUTE, getattr(config, HEADS_ATTRIBUTE))

    def _get_static_cache_init_shape(self) -> None:
        """None: static caches take their shapes from the first tokens, as a ``TokenCounter`` has a shape of its own."""


def prune_attention(layer: nn.Module, index: int, config: PrunedLlamaConfig) -> None:
    """Give the attention of a layer its number of heads, or take it away."""
    sizes = config.per_layer_config[index]
    heads = getattr(sizes, HEADS_ATTRIBUTE)
    if heads == 0:
        replace(layer, dict.fromkeys(ATTENTION_NORMS, nn.Identity()) | {ATTENTION: TokenCounter(index)})
        return
    groups = heads if GROUPS_ATTRIBUTE is None else getattr(sizes, GROUPS_ATTRIBUTE)
    attention = layer.get_submodule(ATTENTION)
    width, group_width = heads * attention.head_dim, groups * attention.head_dim
    resize(layer, [(QUERY, width), (KEY, group_width), (VALUE, group_width)], OUTPUT, config)
    amounts = {"query_heads": heads, "kv_groups": groups, "heads_per_group": heads // groups, "query_width": width}
    if any(attribute.startswith("config.") for attribute in FOLLOWS):
        attention.config = OwnConfig(config)
    for attribute, amount in FOLLOWS.items():
        owner = attention.config if attribute.startswith("config.") else attention
        setattr(owner, attribute.removeprefix("config."), amounts[amount])


def prune_mlp(layer: nn.Module, index: int, config: PrunedLlamaConfig) -> None:
    """Give the MLP of a layer its number of channels, or take it away."""
    width = getattr(config.per_layer_config[index], WIDTH_ATTRIBUTE)
    if width == 0:
        replace(layer, dict.fromkeys(MLP_NORMS, nn.Identity()) | {name: NoMLP() for name in MLP})
        return
    resize(layer, [(name, width) for name in (GATE, UP) if name is not None], DOWN, config)


def resize(layer: nn.Module, outputs: list[tuple[str, int]], back: str, config: PrunedLlamaConfig) -> None:
    """Resize projections by name and number of outputs, and the one ``back``, which reads as many as the first has."""
    rows = Counter()
    for name, count in outputs:
        rows[name] += count
    for name, count in rows.items():
        dense = layer.get_submodule(name)
        layer.set_submodule(name, projection(dense, config.hidden_size, count, bias=dense.bias is not None))
    dense = layer.get_submodule(back)
    layer.set_submodule(back, projection(dense, outputs[0][1], config.hidden_size, bias=back in config.output_bias))


def projection(dense: nn.Module, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
    """A projection like the given one, of other sizes."""
    if isinstance(dense, nn.Linear):
        return nn.Linear(inputs, outputs, bias)
    return type(dense)(outputs, inputs)  # a Conv1D, which always has a bias


def replace(layer: nn.Module, stand_ins: dict[str, nn.Module]) -> None:
    """Put modules where others were."""
    for name, module in stand_ins.items():
        layer.set_submodule(name, module)
