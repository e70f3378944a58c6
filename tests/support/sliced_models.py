"""Tiny models of every family, and reference implementations of pruning: slicing by index lists, or zeroing."""

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from prunecast.architecture.architecture import Architecture, LayerImportance
from prunecast.models.elastic import ElasticModel
from prunecast.testing.models import family_of, shape_of

HEAD_DIM, HIDDEN, WIDTH = 8, 64, 24
IDS = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79], [5, 2, 71, 82, 81, 82, 8, 45]])

SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]

CASES: dict[str, tuple[str, dict[str, object]]] = {
    **{family: (family, {}) for family in ("llama", "mistral", "qwen2", "qwen3", "phi3")},
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", {"sliding_window": 4}),
    "gemma3": ("gemma3_text", {"sliding_window": 4, "layer_types": SLIDING}),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2}),
    "gpt2": ("gpt2", {"n_inner": WIDTH}),
    "opt": ("opt", {"ffn_dim": WIDTH}),
    "opt-norms-last": ("opt", {"ffn_dim": WIDTH, "do_layer_norm_before": False, "word_embed_proj_dim": 32}),
    "opt-no-bias": ("opt", {"ffn_dim": WIDTH, "enable_bias": False}),
}
"""Model types with their changes to ``tiny_config``, for equal sizes or for a variant of the architecture."""


def random_importance(shape: Any, seed: int) -> list[LayerImportance]:
    """Scores without ties."""
    rng = np.random.default_rng(seed)
    return [
        LayerImportance(
            rng.random(layer.kv_groups),
            rng.random((layer.kv_groups, layer.heads_per_group)),
            rng.random(layer.mlp_width),
        )
        for layer in shape.dense.layers
    ]


def elastic_of(model: Any, importance: list[LayerImportance]) -> ElasticModel:
    """The elastic form of a copy of the model."""
    return ElasticModel(copy.deepcopy(model), family_of(model.config), shape_of(model.config), importance)


def stock_layers(model: Any) -> Any:
    """The decoder layers of a stock model of any family."""
    for owner, name in (("transformer", "h"), ("model", "layers")):
        if hasattr(model, owner):
            parent = getattr(model, owner)
            return getattr(getattr(parent, "decoder", parent), name)
    raise LookupError


def picked(layer: Any, scores: LayerImportance, kept: Any) -> tuple[list[int], list[int], list[int]]:
    """Rows of queries, rows of keys, and channels of the units with the highest scores."""
    attention = layer.attn if hasattr(layer, "attn") else layer.self_attn
    per_group = scores.query_heads.shape[1]
    groups = sorted(range(len(scores.kv_groups)), key=lambda g: -scores.kv_groups[g])[: kept.kv_groups]
    heads = [
        g * per_group + h
        for g in groups
        for h in sorted(range(per_group), key=lambda h, g=g: -scores.query_heads[g, h])[: kept.heads_per_group]
    ]
    channels = sorted(range(len(scores.mlp_channels)), key=lambda c: -scores.mlp_channels[c])[: kept.mlp_width]
    return rows_of(heads, attention.head_dim), rows_of(groups, attention.head_dim), channels


def rows_of(units: list[int], size: int) -> list[int]:
    return [unit * size + row for unit in units for row in range(size)]


class Zero(nn.Module):
    """A module that returns zeros of its input's shape."""

    def __init__(self, attention: bool) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, hidden_states: torch.Tensor, **_: object) -> Any:
        zero = torch.zeros_like(hidden_states)
        return (zero, None) if self.attention else zero


def slice_stock(model: Any, architecture: Architecture, importance: list[LayerImportance]) -> Any:
    """A copy of the stock model whose projections are sliced by index lists."""
    model = copy.deepcopy(model)
    slicer = {"phi3": slice_phi3, "gpt2": slice_gpt2, "opt": slice_opt}.get(model.config.model_type, slice_llama)
    for layer, kept, scores in zip(stock_layers(model), architecture.layers, importance, strict=True):
        slicer(layer, kept, *picked(layer, scores, kept))
    return model


def slice_llama(layer: Any, kept: Any, query: list[int], key: list[int], channels: list[int]) -> None:
    attention, mlp = layer.self_attn, layer.mlp
    if kept.kv_groups:
        cut_rows(attention.q_proj, query)
        cut_rows(attention.k_proj, key)
        cut_rows(attention.v_proj, key)
        cut_columns(attention.o_proj, query)
        attention.num_key_value_groups = kept.heads_per_group
    else:
        layer.self_attn = Zero(attention=True)
    if channels:
        cut_rows(mlp.gate_proj, channels)
        cut_rows(mlp.up_proj, channels)
        cut_columns(mlp.down_proj, channels)
    else:
        layer.mlp = Zero(attention=False)


def slice_phi3(layer: Any, kept: Any, query: list[int], key: list[int], channels: list[int]) -> None:
    attention, mlp = layer.self_attn, layer.mlp
    if kept.kv_groups:
        keys = attention.o_proj.in_features
        values = keys + attention.num_key_value_heads * attention.head_dim
        cut_rows(attention.qkv_proj, [*query, *(keys + row for row in key), *(values + row for row in key)])
        cut_columns(attention.o_proj, query)
        attention.num_key_value_heads = kept.kv_groups
        attention.num_key_value_groups = kept.heads_per_group
        attention.config = SimpleNamespace(
            num_attention_heads=kept.query_heads, _attn_implementation=attention.config._attn_implementation
        )
    else:
        layer.self_attn = Zero(attention=True)
    if channels:
        cut_rows(mlp.gate_up_proj, [*channels, *(mlp.down_proj.in_features + channel for channel in channels)])
        cut_columns(mlp.down_proj, channels)
    else:
        layer.mlp = Zero(attention=False)


def slice_gpt2(layer: Any, kept: Any, query: list[int], key: list[int], channels: list[int]) -> None:
    if kept.kv_groups:
        keys, values = layer.attn.embed_dim, 2 * layer.attn.embed_dim
        cut_outputs(layer.attn.c_attn, [*query, *(keys + row for row in key), *(values + row for row in key)])
        layer.attn.c_proj.weight = nn.Parameter(layer.attn.c_proj.weight[query])
        layer.attn.split_size = len(query)
    else:
        layer.attn = Zero(attention=True)
    if channels:
        cut_outputs(layer.mlp.c_fc, channels)
        layer.mlp.c_proj.weight = nn.Parameter(layer.mlp.c_proj.weight[channels])
    else:
        layer.mlp = Zero(attention=False)


def slice_opt(layer: Any, kept: Any, query: list[int], key: list[int], channels: list[int]) -> None:
    attention = layer.self_attn
    if kept.kv_groups:
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            cut_rows(projection, key)
        cut_columns(attention.out_proj, query)
        attention.num_heads = kept.kv_groups
    else:
        layer.self_attn = Zero(attention=True)
    if channels:
        cut_rows(layer.fc1, channels)
        cut_columns(layer.fc2, channels)
    else:
        layer.fc1, layer.fc2 = nn.Identity(), Zero(attention=False)


def cut_rows(linear: nn.Linear, rows: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[rows])
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[rows])


def cut_columns(linear: nn.Linear, columns: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[:, columns])


def cut_outputs(conv: Any, outputs: list[int]) -> None:
    conv.weight, conv.bias = nn.Parameter(conv.weight[:, outputs]), nn.Parameter(conv.bias[outputs])
    conv.nf = len(outputs)


OUTPUTS = {"gpt2": ("attn.c_proj", "mlp.c_proj"), "opt": ("self_attn.out_proj", "fc2")}


def zero_stock(model: Any, architecture: Architecture, importance: list[LayerImportance]) -> Any:
    """A full-size copy of the stock model in which the output weights of removed units are 0."""
    model = copy.deepcopy(model)
    outputs = OUTPUTS.get(model.config.model_type, ("self_attn.o_proj", "mlp.down_proj"))
    for layer, kept, scores in zip(stock_layers(model), architecture.layers, importance, strict=True):
        query, _, channels = picked(layer, scores, kept)
        for name, inputs in zip(outputs, (query, channels), strict=True):
            projection = layer.get_submodule(name)
            weight = projection.weight.data if model.config.model_type == "gpt2" else projection.weight.data.T
            weight[[i for i in range(len(weight)) if i not in inputs]] = 0
            if not inputs and projection.bias is not None:
                projection.bias.data.zero_()
    return model
