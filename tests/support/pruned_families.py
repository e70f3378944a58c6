"""Tiny configs of every family, and pruned models of them with the dense model, zeroed, that computes the same."""

from dataclasses import dataclass

import numpy as np
import torch
from sliced_models import slice_stock, zero_stock
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from prunecast.architecture.architecture import Architecture, LayerImportance

HEAD_DIM, GROUPS, HEADS, WIDTH, VOCABULARY = 8, 4, 2, 48, 97
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": WIDTH,
    "num_attention_heads": GROUPS * HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "eos_token_id": None,
    "bos_token_id": None,
}
SLIDING = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
OWN_GROUPS = {
    "vocab_size": VOCABULARY,
    "hidden_size": GROUPS * HEADS * HEAD_DIM,
    "num_attention_heads": GROUPS * HEADS,
    "max_position_embeddings": 128,
    "eos_token_id": None,
    "bos_token_id": None,
}
MIXED = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]

CASES = {
    "llama-mixed": (
        LlamaConfig(**SIZES, num_hidden_layers=4, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
        "0+20 3x1+0 2x2+48 4x2+7",
    ),
    "llama-no-attention": (LlamaConfig(**SIZES, num_hidden_layers=2), "0+48 0+9"),
    "llama-nothing": (LlamaConfig(**SIZES, num_hidden_layers=2), "0+0*2"),
    "llama-dense": (LlamaConfig(**SIZES, num_hidden_layers=2), "4x2+48*2"),
    "llama-depth-only": (LlamaConfig(**SIZES, num_hidden_layers=3), "4x2+48 0+48 4x2+0"),
    "mistral-sliding": (MistralConfig(**SIZES, num_hidden_layers=3, sliding_window=8), "0+30 2x1+48 4x2+0"),
    "qwen2-sliding": (
        Qwen2Config(**SIZES, num_hidden_layers=4, layer_types=MIXED, **SLIDING),
        "0+10 0+48 1x2+11 3x1+0",
    ),
    "qwen3-uniform": (
        Qwen3Config(
            **SIZES,
            num_hidden_layers=2,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
        "3x1+17*2",
    ),
    "gemma2-sliding": (Gemma2Config(**SIZES, num_hidden_layers=4, sliding_window=8), "2x1+48 0+10 1x2+0 4x2+7"),
    "gemma": (GemmaConfig(**SIZES, num_hidden_layers=3), "2x1+48 0+10 4x2+0"),
    "gemma3-sliding": (
        Gemma3TextConfig(**SIZES, num_hidden_layers=4, sliding_window=8, layer_types=MIXED),
        "2x1+48 0+10 1x2+0 4x2+7",
    ),
    "smollm3-no-rope": (
        SmolLM3Config(**SIZES, num_hidden_layers=4, no_rope_layer_interval=2, pad_token_id=0),
        "0+10 3x1+48 1x2+0 2x2+7",
    ),
    "phi3-fused": (Phi3Config(**SIZES, num_hidden_layers=4, pad_token_id=0), "3x1+10 0+48 1x2+0 4x1+7"),
    "phi3-long": (
        Phi3Config(
            **SIZES | {"hidden_size": 64},
            num_hidden_layers=2,
            pad_token_id=0,
            original_max_position_embeddings=40,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "short_factor": [1.0, 1.0, 1.0, 1.0],
                "long_factor": [2.0, 3.0, 4.0, 5.0],
            },
        ),
        "2x1+10 1x2+48",
    ),
    "gpt2-mixed": (GPT2Config(**OWN_GROUPS, n_layer=4, n_inner=WIDTH), "0+10 3x1+0 1x1+48 8x1+7"),
    "gpt2-width-not-given": (GPT2Config(**OWN_GROUPS, n_layer=2), "8x1+256 5x1+7"),
    "opt-mixed": (OPTConfig(**OWN_GROUPS, num_hidden_layers=4, ffn_dim=WIDTH), "0+10 3x1+0 1x1+48 8x1+7"),
    "opt-norms-last": (
        OPTConfig(
            **OWN_GROUPS,
            num_hidden_layers=4,
            ffn_dim=WIDTH,
            do_layer_norm_before=False,
            word_embed_proj_dim=16,
            enable_bias=False,
        ),
        "2x1+10 3x1+0 0+48 0+0",
    ),
}

NORMS = {
    "gemma3_text": (
        ("input_layernorm", "post_attention_layernorm"),
        ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ),
    "gemma2": (
        ("input_layernorm", "post_attention_layernorm"),
        ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ),
    "gpt2": (("ln_1",), ("ln_2",)),
    "opt": (("self_attn_layer_norm",), ("final_layer_norm",)),
}
"""Names of the attention and MLP norms of families that differ from Llama."""

SIZE_NAMES = {"gpt2": ("n_head", None, "n_inner"), "opt": ("num_attention_heads", None, "ffn_dim")}
"""Config keys for the numbers of query heads, KV groups and channels of families that differ from Llama."""


@dataclass
class Pruned:
    """A pruned model: its sliced weights, and the dense model with zeros that computes the same."""

    config: object
    architecture: Architecture
    state: dict
    zeroed: torch.nn.Module

    def logits(self, ids):
        with torch.inference_mode():
            return self.zeroed(ids).logits


def prune(config, text):
    """Keep the last groups, heads and channels of each layer, so that a prefix would be wrong."""
    torch.manual_seed(1)
    architecture = Architecture.parse(text)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    importance = [ascending(config)] * len(architecture.layers)
    state = slice_stock(model, architecture, importance).state_dict()
    for name in gone_norms(config, architecture):
        for key in [key for key in state if key.startswith(f"{name}.")]:
            del state[key]
    return Pruned(config, architecture, state, zero_stock(model, architecture, importance))


def ascending(config):
    width = getattr(config, SIZE_NAMES.get(config.model_type, ("", "", "intermediate_size"))[2])
    groups = getattr(config, "num_key_value_heads", config.num_attention_heads)
    return LayerImportance(
        np.arange(groups),
        np.arange(config.num_attention_heads).reshape(groups, -1),
        np.arange(width or 4 * config.n_embd),
    )


def gone_norms(config, architecture):
    """Full names of the norms that are removed with their components."""
    layers = {"gpt2": "transformer.h", "opt": "model.decoder.layers"}.get(config.model_type, "model.layers")
    norms = NORMS.get(config.model_type, (("input_layernorm",), ("post_attention_layernorm",)))
    if not getattr(config, "do_layer_norm_before", True):
        return
    for index, layer in enumerate(architecture.layers):
        for kept, names in zip((layer.kv_groups, layer.mlp_width), norms, strict=True):
            yield from (f"{layers}.{index}.{name}" for name in names if not kept)
