"""A decoder of two layers whose forward pass can differ from all known ones, for what no class of transformers does.

``TRAITS`` are the ways in which it can. Its config registers with transformers when it is imported.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

TRAITS = (
    "plain",
    "value-key-query",  # fused rows in this order
    "by-head-and-role",  # fused rows head by head, the value first
    "interleaved-gate",  # rows of gate and up in turn
    "heads-apart",  # query heads g, g + KV, g + 2 KV, ... share group g
    "mixed-heads",  # attention probabilities of all heads are mixed
    "output-gate",  # the queries have rows that gate the output
    "later-tokens",  # no causal mask
    "keys-of-first",  # keys and values are those of the first layer
    "embedded-again",  # every layer gets the embeddings, too
    "layer-scale",  # a scale beside the norms
    "twice",  # the layers run twice
    "two-gates",  # a third projection of the MLP
)


class ToyConfig(PreTrainedConfig):
    """Sizes under the usual names."""

    model_type = "toy-decoder"

    def __init__(self, trait: str = "plain", **others: Any) -> None:
        self.trait = trait
        self.vocab_size, self.hidden_size, self.intermediate_size, self.num_hidden_layers = 47, 24, 19, 2
        self.num_key_value_heads, self.max_position_embeddings = 3, 64
        self.rope_parameters = {"rope_type": "default", "rope_theta": 1e4}  # so that a small head is not tiny
        super().__init__(**others)
        self.num_attention_heads = 6


class TwoNamesConfig(ToyConfig):
    """The number of query heads is in two fields, neither with a usual name."""

    model_type = "toy-two-names"

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)

    @property
    def num_attention_heads(self) -> int:
        """The number of query heads."""
        return self.count_of_heads

    @num_attention_heads.setter
    def num_attention_heads(self, value: int) -> None:
        self.count_of_heads = self.count_of_queries = value


class Attention(nn.Module):
    """Grouped attention of one fused projection."""

    def __init__(self, config: ToyConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.trait = config, layer_idx, config.trait
        self.heads, self.groups, self.head_dim = config.num_attention_heads, config.num_key_value_heads, 8
        gate = self.heads * self.head_dim if self.trait == "output-gate" else 0
        rows = (self.heads + 2 * self.groups) * self.head_dim + gate
        self.qkv = nn.Linear(config.hidden_size, rows, bias=False)
        self.out = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, hidden_states: Tensor, shared: list[Any]) -> tuple[Tensor, None]:
        """Attention of (B, T, D); ``shared`` has what the first layer leaves for the others."""
        query, key, value, gate = self._split(self.qkv(hidden_states))
        if self.trait == "keys-of-first":
            shared[:] = shared or [key, value]
            key, value = shared
        each = self.heads // self.groups
        apart = self.trait == "heads-apart"
        key, value = (
            part.repeat(1, each, 1, 1) if apart else part.repeat_interleave(each, dim=1) for part in (key, value)
        )
        scores = query @ key.transpose(-1, -2) / self.head_dim**0.5
        if self.trait != "later-tokens":
            scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
        weights = scores.softmax(-1)
        if self.trait == "mixed-heads":
            weights = (weights + weights.roll(1, dims=1)) / 2
        output = (weights @ value).transpose(1, 2).flatten(2)
        return self.out(output if gate is None else output * gate.sigmoid()), None

    def _split(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Query, key and value of shape (B, heads, T, head_dim), and the gate (B, T, heads x head_dim)."""
        heads, groups, width = self.heads, self.groups, self.head_dim
        if self.trait == "by-head-and-role":
            by_group = fused.unflatten(-1, (groups, -1, width)).transpose(1, 2)
            value, key, query = by_group.split([1, 1, heads // groups], dim=-2)
            query = query.transpose(2, 3).flatten(1, 2)
            return query, key.squeeze(-2), value.squeeze(-2), None
        sizes = [heads * width, groups * width, groups * width]
        if self.trait == "value-key-query":
            value, key, query = fused.split(sizes[::-1], dim=-1)
            gate = None
        else:
            query, key, value, *gates = fused.split([*sizes, fused.shape[-1] - sum(sizes)], dim=-1)
            gate = gates[0] if gates[0].shape[-1] else None
        query, key, value = (part.unflatten(-1, (-1, width)).transpose(1, 2) for part in (query, key, value))
        return query, key, value, gate


class MLP(nn.Module):
    """A gated MLP of one fused projection."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.trait = config.trait
        self.wide = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        third = self.trait == "two-gates"
        self.third = nn.Linear(config.hidden_size, config.intermediate_size, bias=False) if third else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The MLP of (B, T, D)."""
        wide = self.wide(hidden_states)
        in_turn = self.trait == "interleaved-gate"
        gate, up = (wide[..., ::2], wide[..., 1::2]) if in_turn else wide.chunk(2, dim=-1)
        channels = nn.functional.silu(gate) * up
        return self.down(channels if self.third is None else channels * self.third(hidden_states))


class Layer(nn.Module):
    """A decoder layer with norms before attention and MLP."""

    def __init__(self, config: ToyConfig, index: int) -> None:
        super().__init__()
        self.mix, self.mlp = Attention(config, index), MLP(config)
        self.first_norm, self.second_norm = (nn.LayerNorm(config.hidden_size) for _ in range(2))
        self.scale = nn.Parameter(torch.ones(config.hidden_size)) if config.trait == "layer-scale" else 1.0

    def forward(self, hidden_states: Tensor, shared: list[Any], again: Tensor | None) -> Tensor:
        """The layer of (B, T, D)."""
        hidden_states = hidden_states + self.scale * self.mix(self.first_norm(hidden_states), shared)[0]
        if again is not None:
            hidden_states = hidden_states + again
        return hidden_states + self.mlp(self.second_norm(hidden_states))


@dataclass
class ToyOutput(CausalLMOutputWithPast):
    """Logits, and the final hidden states, which other classes return from a base model."""

    last_hidden_state: Tensor | None = None


class ToyForCausalLM(PreTrainedModel, GenerationMixin):
    """The causal language model."""

    config_class = ToyConfig
    _supports_sdpa = True

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config, index) for index in range(config.num_hidden_layers)])
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings."""
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.head

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutputWithPast:
        """Logits of (B, T) tokens."""
        hidden = self.embed(input_ids)
        again = self.embed(input_ids) if self.config.trait == "embedded-again" else None
        shared: list[Any] = []
        for layer in [*self.layers] * (2 if self.config.trait == "twice" else 1):
            hidden = layer(hidden, shared, again)
        return ToyOutput(logits=self.head(hidden), last_hidden_state=hidden)


class TwoNamesForCausalLM(ToyForCausalLM):
    """The same with the other config."""

    config_class = TwoNamesConfig


for configuration, model in ((ToyConfig, ToyForCausalLM), (TwoNamesConfig, TwoNamesForCausalLM)):
    AutoConfig.register(configuration.model_type, configuration)
    AutoModelForCausalLM.register(configuration, model)
