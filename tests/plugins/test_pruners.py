"""The bundled pruners, against sums over weights written out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from prunecast.errors import DataError
from prunecast.models.families import family_of
from prunecast_plugins.pruners.magnitude import Magnitude, MagnitudeOptions
from prunecast_plugins.pruners.taylor import Taylor, TaylorOptions

TOKENS = torch.tensor([[3, 14, 15, 92, 65, 35], [8, 9, 79, 32, 38, 46]])


def by_hand(model: Any, score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> list[Any]:
    """Importance of each layer's units with explicit loops over groups, heads and channels."""
    layers = []
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        at = lambda linear, rows: (
            score(linear.weight, linear.weight.grad)[rows].sum().item()
            + (
                0.0 if linear.bias is None else score(linear.bias, linear.bias.grad)[rows].sum().item()
            )
        )
        columns = lambda linear, cols: score(linear.weight, linear.weight.grad)[:, cols].sum().item()  # noqa: E731
        span = lambda unit: slice(unit * 8, unit * 8 + 8)  # noqa: E731
        heads = [
            [at(attention.q_proj, span(2 * g + h)) + columns(attention.o_proj, span(2 * g + h)) for h in range(2)]
            for g in range(4)
        ]
        groups = [at(attention.k_proj, span(g)) + at(attention.v_proj, span(g)) + sum(heads[g]) for g in range(4)]
        channels = [at(mlp.gate_proj, c) + at(mlp.up_proj, c) + columns(mlp.down_proj, c) for c in range(24)]
        layers.append((groups, heads, channels))
    return layers


def compare(found: list[Any], wanted: list[Any]) -> None:
    for layer, (groups, heads, channels) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(layer.kv_groups, groups, rtol=1e-4)
        np.testing.assert_allclose(layer.query_heads, heads, rtol=1e-4)
        np.testing.assert_allclose(layer.mlp_channels, channels, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_taylor_is_the_sum_of_weight_times_gradient_of_the_mean_loss(
    family: str, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(family)
    loss = sum(torch.nn.functional.cross_entropy(model(row[None]).logits[0, :-1], row[1:]) for row in TOKENS) / len(
        TOKENS
    )
    loss.backward()  # type: ignore[union-attr]
    wanted = by_hand(model, lambda weight, gradient: (weight * gradient).abs())
    model.zero_grad()
    compare(Taylor(TaylorOptions()).rank(model, family_of(model.config), TOKENS), wanted)


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_magnitude_is_the_sum_of_powers_of_weights(norm: Any, power: int, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("qwen2")
    wanted = by_hand(model, lambda weight, _: weight.abs() ** power)
    compare(Magnitude(MagnitudeOptions(norm=norm)).rank(model, family_of(model.config), None), wanted)


def test_ranking_leaves_the_weights_alone(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Taylor(TaylorOptions()).rank(model, family_of(model.config), TOKENS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_taylor_without_text_says_what_to_give(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with pytest.raises(DataError, match="calibration"):
        Taylor(TaylorOptions()).rank(model, family_of(model.config), None)
