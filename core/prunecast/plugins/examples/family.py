"""An architecture of its own: grouped attention with learned positions, and MLPs of two matrices with squared ReLU.

The layers call attention and MLP as those of transformers do, so that prunecast can leave parts of them out. A saved
model has this file beside its weights, and is loaded with ``trust_remote_code=True`` where it is not installed.
"""
# mypy: ignore-errors

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class PlainConfig(PreTrainedConfig):
    """Sizes of the model."""

    model_type = "plain"

    vocab_size: int = 256
    hidden_size: int = 64
    intermediate_size: int = 192
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 8
    max_position_embeddings: int = 256
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None


class PlainAttention(nn.Module):
    """Attention in which several query heads share the keys and values of one group."""

    def __init__(self, config: PlainConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, True
        self.head_dim, self.scaling = config.head_dim, config.head_dim**-0.5
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        heads, groups = (count * self.head_dim for count in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = nn.Linear(config.hidden_size, heads)
        self.k_proj = nn.Linear(config.hidden_size, groups)
        self.v_proj = nn.Linear(config.hidden_size, groups)
        self.o_proj = nn.Linear(heads, config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, past_key_values: Cache | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Output (B, T, D), and the attention weights if the implementation returns them."""
        batch, length, _ = hidden_states.shape
        query, key, value = (
            projection(hidden_states).view(batch, length, -1, self.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, sdpa_attention_forward)
        output, weights = attend(self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling)
        return self.o_proj(output.reshape(batch, length, -1)), weights


class PlainMLP(nn.Module):
    """Two matrices, with the square of ReLU between them."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Output (B, T, D)."""
        return self.down_proj(nn.functional.relu(self.up_proj(hidden_states)).square())


class PlainLayer(nn.Module):
    """A decoder layer: attention and MLP, each after a norm."""

    def __init__(self, config: PlainConfig, layer_idx: int) -> None:
        super().__init__()
        self.attention, self.mlp = PlainAttention(config, layer_idx), PlainMLP(config)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(config.hidden_size), nn.LayerNorm(config.hidden_size)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, past_key_values: Cache | None) -> Tensor:
        """The residual stream (B, T, D) after the layer."""
        attended, _ = self.attention(
            self.attention_norm(hidden_states), attention_mask=attention_mask, past_key_values=past_key_values
        )
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class PlainPreTrainedModel(PreTrainedModel):
    """Common base of model and causal language model."""

    config_class = PlainConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_attention_backend = True


class PlainModel(PlainPreTrainedModel):
    """Embeddings of tokens and positions, the layers, and the last norm."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(PlainLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **others: object,
    ) -> BaseModelOutputWithPast:
        """The residual stream (B, T, D) after the last norm, and the cache."""
        if (self.config.use_cache if use_cache is None else use_cache) and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            start = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(start, start + embedded.shape[1], device=embedded.device)[None]
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=embedded,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        hidden_states = embedded + self.embed_positions(position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, past_key_values)
        return BaseModelOutputWithPast(self.norm(hidden_states), past_key_values)


class PlainForCausalLM(PlainPreTrainedModel, GenerationMixin):
    """The model with its head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        self.model = PlainModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **others: object,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V), those of the last ``logits_to_keep`` tokens unless that is 0, and the loss of labels."""
        output = self.model(input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache)
        logits = self.lm_head(output.last_hidden_state[:, -logits_to_keep:])
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=output.past_key_values)
