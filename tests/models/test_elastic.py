"""The elastic model against really sliced stock models, built here by other means."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from prunecast.architecture import Architecture
from prunecast.errors import ModelError
from prunecast.interfaces import LayerImportance
from prunecast.models.elastic import ElasticModel, ShrinkingInput, ShrinkingOutput
from prunecast.models.families import family_of, shape_of

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
IDS = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79], [5, 2, 71, 82, 81, 82, 8, 45]])


def random_importance(shape: Any, seed: int) -> list[LayerImportance]:
    rng = np.random.default_rng(seed)
    return [
        LayerImportance(
            rng.random(layer.kv_groups),
            rng.random((layer.kv_groups, layer.heads_per_group)),
            rng.random(layer.mlp_width),
        )
        for layer in shape.dense.layers
    ]


class Zero(nn.Module):
    def __init__(self, attention: bool) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, hidden_states: torch.Tensor, **_: object) -> Any:
        zero = torch.zeros_like(hidden_states)
        return (zero, None) if self.attention else zero


def slice_stock(model: Any, architecture: Architecture, importance: list[LayerImportance]) -> Any:
    """A stock model whose linear layers were cut by index lists, units picked one by one from the scores."""
    model = copy.deepcopy(model)
    for layer, kept, scores in zip(model.model.layers, architecture.layers, importance, strict=True):
        attention, mlp = layer.self_attn, layer.mlp
        size, per_group = attention.head_dim, scores.query_heads.shape[1]
        groups = sorted(range(len(scores.kv_groups)), key=lambda g: -scores.kv_groups[g])[: kept.kv_groups]
        heads = [
            g * per_group + h
            for g in groups
            for h in sorted(range(per_group), key=lambda h, g=g: -scores.query_heads[g, h])[: kept.heads_per_group]
        ]
        channels = sorted(range(len(scores.mlp_channels)), key=lambda c: -scores.mlp_channels[c])[: kept.mlp_width]
        if kept.kv_groups:
            cut_rows(attention.q_proj, rows_of(heads, size))
            cut_rows(attention.k_proj, rows_of(groups, size))
            cut_rows(attention.v_proj, rows_of(groups, size))
            attention.o_proj.weight = nn.Parameter(attention.o_proj.weight[:, rows_of(heads, size)])
            attention.num_key_value_groups = kept.heads_per_group
        else:
            layer.self_attn = Zero(attention=True)
        if kept.mlp_width:
            cut_rows(mlp.gate_proj, channels)
            cut_rows(mlp.up_proj, channels)
            mlp.down_proj.weight = nn.Parameter(mlp.down_proj.weight[:, channels])
        else:
            layer.mlp = Zero(attention=False)
    return model


def rows_of(units: list[int], size: int) -> list[int]:
    return [unit * size + row for unit in units for row in range(size)]


def cut_rows(linear: nn.Linear, rows: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[rows])
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[rows])


def elastic_of(model: Any, importance: list[LayerImportance]) -> ElasticModel:
    return ElasticModel(copy.deepcopy(model), family_of(model.config), shape_of(model.config), importance)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_a_sliced_model_for_every_kept_count(family: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family)
    shape = shape_of(model.config)
    importance = random_importance(shape, seed=1)
    elastic = elastic_of(model, importance)
    every = [(kv, h, 24) for kv in range(5) for h in range(3)] + [(4, 2, width) for width in range(25)]
    for sizes in every:
        architecture = Architecture([(4, 1, 13), sizes, (3, 2, 24)])
        elastic.apply(architecture)
        with torch.inference_mode():
            expected = slice_stock(model, architecture, importance)(IDS).logits
            torch.testing.assert_close(elastic.model(IDS).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_walk_over_architectures_ends_where_a_fresh_model_would(
    family: str, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(family)
    shape = shape_of(model.config)
    importance = random_importance(shape, seed=2)
    walked, rng = elastic_of(model, importance), np.random.default_rng(3)
    for _ in range(20):
        architecture = Architecture(
            [(int(rng.integers(5)), int(rng.integers(3)), int(rng.integers(25))) for _ in "abc"]
        )
        walked.apply(architecture)
        with torch.inference_mode():
            expected = slice_stock(model, architecture, importance)(IDS).logits
            torch.testing.assert_close(walked.model(IDS).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_counted_parameters_are_those_of_the_sliced_weights(family: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family)
    shape = shape_of(model.config)
    elastic = elastic_of(model, random_importance(shape, seed=4))
    for layers in ([(4, 2, 24)] * 3, [(2, 1, 5), (0, 0, 24), (1, 2, 0)], [(0, 0, 0)] * 3):
        elastic.apply(Architecture(layers))
        state = elastic.state_dict()
        distinct = {tensor.data_ptr(): tensor.numel() for tensor in state.values()}
        assert shape.count([elastic.architecture])[0] == sum(distinct.values())


def test_state_dict_loads_into_a_sliced_stock_model(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("qwen2")
    importance = random_importance(shape_of(model.config), seed=5)
    elastic = elastic_of(model, importance)
    elastic.apply(Architecture([(2, 1, 7), (4, 1, 24), (3, 2, 1)]))
    expected = slice_stock(model, elastic.architecture, importance).state_dict()
    state = elastic.state_dict()
    for name, tensor in expected.items():
        if name != "lm_head.weight":
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


def test_switching_copies_no_weight(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=6))
    storage = {p.untyped_storage().data_ptr() for p in elastic.model.parameters()}
    elastic.apply(Architecture([(2, 1, 7), (3, 1, 24), (1, 2, 0)]))
    for module in elastic.model.modules():
        kept: list[torch.Tensor] = []
        if isinstance(module, ShrinkingOutput):
            kept = [weight for weight, _ in module.views()]
        elif isinstance(module, ShrinkingInput):
            kept = module.views()
        assert all(tensor.untyped_storage().data_ptr() in storage for tensor in kept)
        assert all(tensor.is_contiguous() for tensor in kept)


@pytest.mark.parametrize(
    ("layers", "message"),
    [([(4, 2, 24)] * 2, "has 2 layers, the model 3"), ([(4, 2, 24), (4, 2, 25), (4, 2, 24)], "layer 1")],
)
def test_architecture_of_another_model_is_refused(
    layers: list[tuple[int, int, int]], message: str, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=7))
    with pytest.raises(ModelError, match=message):
        elastic.apply(Architecture(layers))


def test_family_that_is_not_described_says_how_to_describe_it() -> None:
    from transformers import AutoConfig

    with pytest.raises(ModelError, match=r"add Family\('bloom'"):
        family_of(AutoConfig.for_model("bloom"))
