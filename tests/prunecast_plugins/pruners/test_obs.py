"""The OBS pruner, compared with greedy removal that solves a least-squares problem for every candidate set."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from prunecast.errors import DataError
from prunecast.models.families.layer_parts import layers_of
from prunecast.testing.models import family_of
from prunecast_plugins.pruners import obs
from prunecast_plugins.pruners.obs import OBS, OBSOptions

TOKENS = torch.randint(3, 97, (7, 12), generator=torch.Generator().manual_seed(1))
DAMPING = 0.01
GROUPS, HEADS, HEAD_DIM = 4, 2, 8

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def heard(model: Any) -> dict[str, Arrays]:
    """Inputs (N, K), gradients of the summed loss at the output (N, D) and weight (K, D) of every output projection."""
    inputs: dict[str, list[torch.Tensor]] = {}
    gradients: dict[str, list[torch.Tensor]] = {}
    modules = {n: m for n, m in model.named_modules() if n.endswith(("o_proj", "down_proj"))}
    for row in TOKENS:
        outputs: dict[str, torch.Tensor] = {}

        def hear(module: Any, read: Any, put: torch.Tensor, outputs: dict[str, torch.Tensor] = outputs) -> None:
            name = next(n for n, m in modules.items() if m is module)
            inputs.setdefault(name, []).append(read[0][0].detach())
            outputs[name] = put

        hooks = [module.register_forward_hook(hear) for module in modules.values()]
        logits = model(row[None], use_cache=False).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, row[1:], reduction="sum")
        for name, gradient in zip(outputs, torch.autograd.grad(loss, list(outputs.values())), strict=True):
            gradients.setdefault(name, []).append(gradient[0])
        for hook in hooks:
            hook.remove()
    return {
        name: tuple(
            tensor.double().numpy() for tensor in (torch.cat(inputs[name]), torch.cat(gradients[name]), m.weight.data.T)
        )
        for name, m in modules.items()
    }


def residual(inputs: np.ndarray, weighed: np.ndarray, left: Sequence[int]) -> float:
    """Squared error of the best damped reconstruction of all outputs from the remaining inputs."""
    tokens, size = inputs.shape
    scale = np.sqrt(DAMPING * (inputs**2).mean())
    rows = np.concatenate([inputs / np.sqrt(tokens), scale * np.eye(size)])
    wanted = rows @ weighed
    if not left:
        return float((wanted**2).sum())
    solution = np.linalg.lstsq(rows[:, left], wanted, rcond=None)[0]
    return float(((wanted - rows[:, left] @ solution) ** 2).sum())


def greedy(inputs: np.ndarray, weighed: np.ndarray, units: Sequence[Sequence[int]]) -> list[int]:
    """Step at which each unit is removed, if each step removes the unit whose removal leaves the smallest error."""
    gone: list[int] = []
    size = inputs.shape[1]

    def error(unit: int) -> float:
        removed = {i for each in [*gone, unit] for i in units[each]}
        return residual(inputs, weighed, [i for i in range(size) if i not in removed])

    while len(gone) < len(units):
        gone.append(min((u for u in range(len(units)) if u not in gone), key=error))
    return [gone.index(unit) for unit in range(len(units))]


@pytest.mark.parametrize("outputs", ["alike", "loss"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_order_equals_that_of_greedy_removal(
    family: str, outputs: Literal["alike", "loss"], tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(family)
    arrays = heard(model)
    found = OBS(OBSOptions(outputs=outputs, damping=DAMPING)).rank(model, family_of(model.config), TOKENS)
    for number, layer in enumerate(found):
        for name, spans in (
            ("self_attn.o_proj", [range(g * 16, g * 16 + 16) for g in range(GROUPS)]),
            ("mlp.down_proj", [range(c, c + 1) for c in range(24)]),
        ):
            inputs, gradients, weight = arrays[f"model.layers.{number}.{name}"]
            root = np.linalg.cholesky(gradients.T @ gradients / len(gradients) + 1e-12 * np.eye(weight.shape[1]))
            weighed = weight if outputs == "alike" else weight @ root
            ranks = layer.kv_groups if name.startswith("self") else layer.mlp_channels
            assert ranks.tolist() == greedy(inputs, weighed, spans)
            if name.startswith("self"):
                for group in range(GROUPS):
                    heads = [range(s, s + HEAD_DIM) for s in range(group * 16, group * 16 + 16, HEAD_DIM)]
                    assert layer.query_heads[group].tolist() == greedy(inputs, weighed, heads)


def test_several_channels_can_be_removed_per_step(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(obs, "STEPS", 6)
    pruner = OBS(OBSOptions(outputs="alike"))
    found = pruner.rank(model, family_of(model.config), TOKENS)
    assert all(sorted(layer.mlp_channels.tolist()) == list(range(24)) for layer in found)


@pytest.mark.parametrize("family", ["phi3", "gpt2", "opt", "gemma2"])
def test_units_with_zero_output_are_removed_first(family: str, tiny_model: Callable[..., Any]) -> None:
    """The zero units: channel 5 of the first layer, and the last query head of KV group 2 of the second."""
    model = tiny_model(family)
    description = family_of(model.config)
    first, second, _ = layers_of(model, description)
    heads = first.sizes.heads_per_group
    head = 2 * heads + heads - 1
    with torch.no_grad():
        first.down.weight()[:, 5] = 0
        second.output.weight()[:, head * 8 : head * 8 + 8] = 0
    found = OBS(OBSOptions()).rank(model, description, TOKENS)
    # OPT has channels that no token of so short a text activates.
    assert found[0].mlp_channels[5] == 0 or family == "opt"
    assert found[1].query_heads[2].argmin() == heads - 1


@pytest.mark.parametrize("outputs", ["alike", "loss"])
def test_a_component_whose_inputs_are_all_zero_is_ranked(
    outputs: Literal["alike", "loss"], tiny_model: Callable[..., Any]
) -> None:
    """All inputs of the output projections of the first layer's attention and the second layer's MLP are 0."""
    model = tiny_model("llama")
    model.model.layers[0].self_attn.v_proj.weight.data.zero_()
    model.model.layers[1].mlp.up_proj.weight.data.zero_()
    found = OBS(OBSOptions(outputs=outputs)).rank(model, family_of(model.config), TOKENS)
    for layer in found:
        assert sorted(layer.kv_groups.tolist()) == list(range(GROUPS))
        assert [sorted(heads) for heads in layer.query_heads.tolist()] == [[0, 1]] * GROUPS
        assert sorted(layer.mlp_channels.tolist()) == list(range(24))


def test_weights_keep_no_gradients(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    OBS(OBSOptions()).rank(model, family_of(model.config), TOKENS)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_missing_text_unequal_lengths_and_non_finite_weights_are_errors(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with pytest.raises(DataError, match="obs pruner needs calibration text"):
        OBS(OBSOptions()).rank(model, family_of(model.config), None)
    with pytest.raises(ValidationError, match="same number of tokens"):
        OBSOptions.model_validate({"calibration": [{"tokens": 64}, {"tokens": 128}]})
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        OBS(OBSOptions()).rank(model, family_of(model.config), TOKENS)
