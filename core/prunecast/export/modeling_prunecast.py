"""A Llama whose layers keep different numbers of heads and channels, or have no attention or no MLP at all.

Written by prunecast. Needs transformers only. The forward pass is the one of transformers; this file only
builds each layer with the sizes that ``per_layer_config`` in ``config.json`` gives it. A layer with zero heads has no
attention, a layer with an ``intermediate_size`` of zero has no MLP.
"""
# mypy: ignore-errors

from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM

LAYERS = "model.layers"
ATTENTION = "self_attn"
ATTENTION_NORMS = ("input_layernorm",)
MLP = "mlp"
MLP_NORMS = ("post_attention_layernorm",)


@strict
class PrunedLlamaConfig(LlamaConfig):
    """Config of the dense model, with ``per_layer_config`` for what is left of each layer."""

    model_type = "prunecast-llama"

    def validate_architecture(self) -> None:
        """Nothing to check: heads need not divide the hidden size, and the model has no number of heads as a whole."""


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
    """Stands where an MLP is gone: adds zero to the residual stream."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """A zero that broadcasts over (B, T, D)."""
        return hidden_states.new_zeros(())


def pruned_layer(config: PrunedLlamaConfig, index: int) -> LlamaDecoderLayer:
    """The decoder layer with the sizes of ``config.per_layer_config[index]``."""
    sizes = config.per_layer_config[index]
    gone: dict[str, nn.Module] = {}
    if sizes.num_attention_heads == 0:
        gone |= {ATTENTION: TokenCounter(index)} | {norm: nn.Identity() for norm in ATTENTION_NORMS}
        sizes.num_attention_heads = sizes.num_key_value_heads = 1
    if sizes.intermediate_size == 0:
        gone |= {MLP: NoMLP()} | {norm: nn.Identity() for norm in MLP_NORMS}
        sizes.intermediate_size = 1
    layer = LlamaDecoderLayer(sizes, index)
    for name, stand_in in gone.items():
        layer.set_submodule(name, stand_in)
    for module in layer.modules():
        if hasattr(module, "config"):
            module.config = config  # the one that `set_attn_implementation` changes
    return layer


class PrunedLlamaForCausalLM(LlamaForCausalLM):
    """Causal language model with layers of different sizes."""

    config: PrunedLlamaConfig

    def __init__(self, config: PrunedLlamaConfig) -> None:
        depth, config.num_hidden_layers = config.num_hidden_layers, 0
        try:
            super().__init__(config)  # everything but the layers
        finally:
            config.num_hidden_layers = depth
        self.get_submodule(LAYERS).extend(pruned_layer(config, index) for index in range(depth))
        self.post_init()

    def _get_static_cache_init_shape(self) -> None:
        """None: static caches take their shapes from the first tokens, as a ``TokenCounter`` has a shape of its own."""
