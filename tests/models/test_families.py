"""Descriptions of families: errors of wrong ones, and completeness of right ones."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sliced_models import CASES, HEAD_DIM, HIDDEN, IDS, WIDTH, stock_layers

from prunecast.errors import ModelError
from prunecast.models.families import sizes
from prunecast.models.families.layer_parts import layers_of
from prunecast.models.units import sum_over_units
from prunecast.testing.models import family_of, shape_of


def test_a_family_that_cannot_be_detected_is_refused_by_what_it_has() -> None:
    from transformers import AutoConfig

    with pytest.raises(ModelError) as caught:
        family_of(AutoConfig.for_model("mamba"))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("model type 'mamba' is not described, and cannot be detected: it has state space")
    assert ".py" not in message, "advises to edit an installed file"


class Scaled(torch.nn.Linear):
    """A linear projection of half its weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 2


def halve(module: torch.nn.Linear) -> torch.nn.Module:
    module.forward = lambda x: torch.nn.functional.linear(x, module.weight) / 2  # type: ignore[method-assign]
    return module


def parametrise(module: torch.nn.Linear) -> torch.nn.Module:
    return torch.nn.utils.parametrizations.weight_norm(module)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda module: Scaled(64, 64, bias=False), r"which is a \w+ Scaled, not a linear projection"),
        (halve, "which is a Linear with a forward pass of its own, not a linear projection"),
        (parametrise, "which is a ParametrizedLinear, not a linear projection"),
    ],
)
def test_modules_that_do_more_than_multiply_are_not_linear(
    change: Callable[[Any], torch.nn.Module], message: str, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model("llama")
    attention = model.model.layers[1].self_attn
    attention.q_proj = change(attention.q_proj)
    with pytest.raises(ModelError, match=message):
        list(layers_of(model, family_of(model.config)))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("llama", {"query": "self_attn.query"}, "query='self_attn.query', which does not exist"),
        ("llama", {"layers": "model.blocks"}, "layers='model.blocks', which does not exist"),
        ("llama", {"down": "mlp"}, "down='mlp', which is a LlamaMLP"),
        ("llama", {"up": "mlp.down_proj"}, "has 64 outputs"),
        ("phi3", {"value": "self_attn.o_proj"}, "value='self_attn.o_proj'|query='self_attn.qkv_proj'"),
        ("llama", {"gate": None}, r"does not cover .*\(mlp.gate_proj.weight\)"),
        ("gemma2", {"mlp_norms": ("pre_feedforward_layernorm",)}, "does not cover"),
        ("opt", {"mlp": ("fc1",)}, "does not cover"),
    ],
)
def test_wrong_description_is_a_one_line_error_with_its_location(
    family: str, changes: dict[str, Any], message: str, tiny_model: Callable[..., Any]
) -> None:
    config = tiny_model(*CASES[family][:1], **CASES[family][1]).config
    with pytest.raises(ModelError, match=message) as caught:
        sizes.shape_of(config, replace(family_of(config), **changes))
    assert "\n" not in str(caught.value)


def test_layers_with_cross_attention_are_refused(tiny_model: Callable[..., Any]) -> None:
    from transformers import GPT2Config

    with pytest.raises(ModelError, match="crossattention"):
        shape_of(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=11, add_cross_attention=True))


def test_norms_of_the_residual_stream_are_never_removed(tiny_model: Callable[..., Any]) -> None:
    first, last = (tiny_model(CASES[case][0], **CASES[case][1]).config for case in ("opt", "opt-norms-last"))
    assert family_of(first).lasting == ()
    assert family_of(last).lasting == ("self_attn_layer_norm", "final_layer_norm")
    assert shape_of(last).layers[0].attention.base == shape_of(first).layers[0].attention.base - 2 * HIDDEN


@pytest.mark.parametrize("case", CASES)
def test_shape_is_that_of_the_config(case: str, tiny_model: Callable[..., Any]) -> None:
    shape = shape_of(tiny_model(CASES[case][0], **CASES[case][1]).config)
    layer = shape.dense.layers[0]
    assert (len(shape.dense.layers), layer.query_heads, layer.mlp_width) == (3, 8, WIDTH)
    assert layer.kv_groups == (8 if CASES[case][0] in ("gpt2", "opt") else 4)
    assert (shape.head_dim, shape.hidden_size, shape.vocabulary, shape.context) == (HEAD_DIM, HIDDEN, 97, 128)


def test_default_gpt2_mlp_width_is_four_times_the_hidden_size(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("gpt2")
    assert model.config.n_inner is None
    assert shape_of(model.config).dense.layers[0].mlp_width == 4 * HIDDEN


Score = Callable[[torch.Tensor], torch.Tensor]


def of_llama(layer: Any, score: Score) -> tuple[Any, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    rows = [linear_rows(attention.get_submodule(f"{part}_proj"), score) for part in "qkv"]
    channels = linear_rows(mlp.gate_proj, score) + linear_rows(mlp.up_proj, score)
    return (*rows, score(attention.o_proj.weight).sum(0), channels + score(mlp.down_proj.weight).sum(0))


def of_phi3(layer: Any, score: Score) -> tuple[Any, ...]:
    fused, wide = linear_rows(layer.self_attn.qkv_proj, score), linear_rows(layer.mlp.gate_up_proj, score)
    query, key, value = fused[:64], fused[64:96], fused[96:]
    channels = wide[:WIDTH] + wide[WIDTH:] + score(layer.mlp.down_proj.weight).sum(0)
    return query, key, value, score(layer.self_attn.o_proj.weight).sum(0), channels


def of_gpt2(layer: Any, score: Score) -> tuple[Any, ...]:
    fused = score(layer.attn.c_attn.weight).sum(0) + score(layer.attn.c_attn.bias)
    channels = score(layer.mlp.c_fc.weight).sum(0) + score(layer.mlp.c_fc.bias) + score(layer.mlp.c_proj.weight).sum(1)
    return fused[:64], fused[64:128], fused[128:], score(layer.attn.c_proj.weight).sum(1), channels


def of_opt(layer: Any, score: Score) -> tuple[Any, ...]:
    rows = [linear_rows(layer.self_attn.get_submodule(f"{part}_proj"), score) for part in "qkv"]
    channels = linear_rows(layer.fc1, score) + score(layer.fc2.weight).sum(0)
    return (*rows, score(layer.self_attn.out_proj.weight).sum(0), channels)


def linear_rows(linear: torch.nn.Linear, score: Score) -> torch.Tensor:
    rows = score(linear.weight).sum(1)
    return rows if linear.bias is None else rows + score(linear.bias)


@pytest.mark.parametrize("case", CASES)
def test_units_are_scored_by_their_own_weights_and_gradients(case: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(CASES[case][0], **CASES[case][1])
    model(IDS, labels=IDS).loss.backward()
    score: Score = lambda parameter: (parameter.detach() * parameter.grad).abs().double()  # noqa: E731
    found = sum_over_units(model, family_of(model.config), score)
    by_hand = {"phi3": of_phi3, "gpt2": of_gpt2, "opt": of_opt}.get(model.config.model_type, of_llama)
    groups = len(found[0].kv_groups)
    for layer, importance in zip(stock_layers(model), found, strict=True):
        query, key, value, output, channels = by_hand(layer, score)
        for g in range(groups):
            total = 0.0
            for h in range(8 // groups):
                span = slice((g * 8 // groups + h) * 8, (g * 8 // groups + h + 1) * 8)
                head = float((query + output)[span].sum())
                np.testing.assert_allclose(importance.query_heads[g, h], head, rtol=1e-6)
                total += head
            total += float((key + value)[8 * g : 8 * g + 8].sum())
            np.testing.assert_allclose(importance.kv_groups[g], total, rtol=1e-6)
        np.testing.assert_allclose(importance.mlp_channels, channels, rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_every_matrix_of_a_layer_is_found_once(case: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(CASES[case][0], **CASES[case][1])
    for parts in layers_of(model, family_of(model.config)):
        described = sum(projection.size for projection in parts.projections)
        norms = sum(p.numel() for name, p in parts.layer.named_parameters() if "norm" in name or ".ln_" in f".{name}")
        assert described + norms == sum(p.numel() for p in parts.layer.parameters())
