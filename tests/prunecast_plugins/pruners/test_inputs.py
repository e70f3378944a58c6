"""Pruners that score the inputs of output projections, compared with loops over heads and channels of stored inputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from prunecast.testing.models import family_of
from prunecast_plugins.pruners.activation import Activation
from prunecast_plugins.pruners.calibrated import CalibratedOptions
from prunecast_plugins.pruners.flap import FLAP
from prunecast_plugins.pruners.inputs import InputMoments

TOKENS = torch.randint(3, 97, (7, 12), generator=torch.Generator().manual_seed(1))

Inputs = dict[str, torch.Tensor]


def inputs_of(model: Any) -> Inputs:
    """Inputs (tokens, K) in float64 of every projection by name, one sample a forward pass."""
    kept: dict[str, list[torch.Tensor]] = {}
    names = {module: name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    hooks = [
        module.register_forward_hook(lambda module, read, _: kept.setdefault(names[module], []).append(read[0][0]))
        for module in names
    ]
    with torch.no_grad():
        for row in TOKENS:
            model(row[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts).double() for name, parts in kept.items()}


def wanda(weight: torch.Tensor, inputs: torch.Tensor, j: int) -> float:
    return sum(abs(weight[i, j].item()) * inputs[:, j].norm().item() for i in range(weight.shape[0]))


def fluctuation(weight: torch.Tensor, inputs: torch.Tensor, j: int) -> float:
    deviation = inputs[:, j] - inputs[:, j].mean()
    return float((deviation**2).mean() * (weight[:, j].double() ** 2).sum())


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize(("pruner", "score"), [(Activation, wanda), (FLAP, fluctuation)], ids=["activation", "flap"])
def test_scores_are_sums_over_the_inputs_of_a_unit(
    pruner: Any, score: Callable[..., float], family: str, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(family)
    read = inputs_of(model)
    found = pruner(CalibratedOptions()).rank(model, family_of(model.config), TOKENS)
    for number, (layer, importance) in enumerate(zip(model.model.layers, found, strict=True)):
        to_output = (layer.self_attn.o_proj.weight.detach(), read[f"model.layers.{number}.self_attn.o_proj"])
        to_down = (layer.mlp.down_proj.weight.detach(), read[f"model.layers.{number}.mlp.down_proj"])
        heads = [
            [sum(score(*to_output, (2 * group + head) * 8 + j) for j in range(8)) for head in range(2)]
            for group in range(4)
        ]
        np.testing.assert_allclose(importance.query_heads, heads, rtol=1e-4)
        np.testing.assert_allclose(importance.kv_groups, [sum(group) for group in heads], rtol=1e-4)
        np.testing.assert_allclose(importance.mlp_channels, [score(*to_down, j) for j in range(24)], rtol=1e-4)


def test_activation_scores_a_constant_input_and_flap_does_not(tiny_model: Callable[..., Any]) -> None:
    """OPT has biases before its activation: channel 5 with zero weights and a bias of 3 always outputs 3."""
    model = tiny_model("opt")
    fc1 = model.model.decoder.layers[0].fc1
    with torch.no_grad():
        fc1.weight[5], fc1.bias[5] = 0, 3
    activation, flap = (
        pruner(CalibratedOptions()).rank(model, family_of(model.config), TOKENS)[0].mlp_channels
        for pruner in (Activation, FLAP)
    )
    assert flap[5] == pytest.approx(0, abs=1e-12)
    assert activation[5] > np.median(activation)


def test_moments_do_not_depend_on_the_batches() -> None:
    inputs = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(2))
    whole, parts = InputMoments(5, inputs.device), InputMoments(5, inputs.device)
    whole.add(inputs)
    for start, stop in ((0, 1), (1, 8), (8, 30)):
        parts.add(inputs[:, start:stop])
    assert whole.count == parts.count == 60
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.variance, whole.variance, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.norm, inputs.flatten(0, 1).double().norm(dim=0), rtol=1e-12, atol=0)


def test_variance_is_accurate_beside_a_large_mean() -> None:
    """E[x^2] - E[x]^2 would give 0 here even in float64; outlier channels of real models look like this."""
    inputs = 1e5 + torch.tensor([[0.0], [1.0]]).double() * 2**-12
    moments = InputMoments(1, inputs.device)
    for row in inputs:
        moments.add(row[None])
    assert moments.variance.item() == pytest.approx(2**-26, rel=1e-3)
