"""Twin: attention and MLP read the same norm and add to the same residual stream; queries, keys and values are fused.

The layers call attention and MLP as those of transformers do, so that prunecast can leave parts of them out. A saved
model has this file beside its weights, and is loaded with ``trust_remote_code=True`` where it is not installed.
"""
# mypy: ignore-errors

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


class TwinConfig(PreTrainedConfig):
    """Sizes of the model."""

    model_type = "twin"

    vocab_size: int = 256
    hidden_size: int = 96
    d_ff: int = 192
    num_hidden_layers: int = 4
    num_attention_heads: int = 6
    num_key_value_heads: int = 3
    head_dim: int = 16
    max_position_embeddings: int = 256
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None


class TwinAttention(nn.Module):
    """Attention with one projection for all queries, all keys and all values."""

    def __init__(self, config: TwinConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx, self.head_dim = layer_idx, config.head_dim
        self.query_width, group_width = (
            count * config.head_dim for count in (config.num_attention_heads, config.num_key_value_heads)
        )
        self.queries_keys_values = nn.Linear(config.hidden_size, self.query_width + 2 * group_width, bias=False)
        self.output = nn.Linear(self.query_width, config.hidden_size, bias=False)

    def forward(
        self, hidden_states: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, None]:
        """Output (B, T, D), and None for the attention weights."""
        batch, length, _ = hidden_states.shape
        fused = self.queries_keys_values(hidden_states)
        group_width = (fused.shape[-1] - self.query_width) // 2
        query, key, value = (
            part.view(batch, length, -1, self.head_dim).transpose(1, 2)
            for part in fused.split([self.query_width, group_width, group_width], dim=-1)
        )
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        output = nn.functional.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)
        return self.output(output.transpose(1, 2).reshape(batch, length, -1)), None


class TwinMLP(nn.Module):
    """A gated MLP with one projection for the gate and what it lets through."""

    def __init__(self, config: TwinConfig) -> None:
        super().__init__()
        self.widen = nn.Linear(config.hidden_size, 2 * config.d_ff, bias=False)
        self.narrow = nn.Linear(config.d_ff, config.hidden_size, bias=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Output (B, T, D)."""
        return self.narrow(nn.functional.glu(self.widen(hidden_states)))


class TwinLayer(nn.Module):
    """A decoder layer: attention and MLP side by side."""

    def __init__(self, config: TwinConfig, layer_idx: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.attend, self.mlp = TwinAttention(config, layer_idx), TwinMLP(config)

    def forward(self, hidden_states: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        """The residual stream (B, T, D) after the layer."""
        normed = self.norm(hidden_states)
        attended, _ = self.attend(normed, mask=mask, cache=cache)
        return hidden_states + attended + self.mlp(normed)


class TwinPreTrainedModel(PreTrainedModel):
    """What model and causal language model have in common."""

    config_class = TwinConfig
    base_model_prefix = "decoder"
    _supports_sdpa = True


class TwinModel(TwinPreTrainedModel):
    """Embeddings of tokens and positions, the layers, and the last norm."""

    def __init__(self, config: TwinConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.blocks = nn.ModuleList(TwinLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The embeddings of tokens."""
        return self.tokens

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **others: object,
    ) -> BaseModelOutputWithPast:
        """The residual stream (B, T, D) after the last norm, and the cache."""
        if (self.config.use_cache if use_cache is None else use_cache) and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        embedded = self.tokens(input_ids)
        if position_ids is None:
            start = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(start, start + embedded.shape[1], device=embedded.device)[None]
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=embedded,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
            allow_is_causal_skip=False,
        )
        hidden_states = embedded + self.positions(position_ids)
        for block in self.blocks:
            hidden_states = block(hidden_states, mask, past_key_values)
        return BaseModelOutputWithPast(self.norm(hidden_states), past_key_values)


class TwinForCausalLM(TwinPreTrainedModel, GenerationMixin):
    """The model with its head."""

    _tied_weights_keys = {"head.weight": "decoder.tokens.weight"}  # noqa: RUF012

    def __init__(self, config: TwinConfig) -> None:
        super().__init__(config)
        self.decoder = TwinModel(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **others: object,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V), those of the last ``logits_to_keep`` tokens unless that is 0, and the loss of labels."""
        output = self.decoder(input_ids, attention_mask, position_ids, past_key_values, use_cache)
        logits = self.head(output.last_hidden_state[:, -logits_to_keep:])
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=output.past_key_values)
