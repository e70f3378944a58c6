"""The bundled pruners: behaviour common to all, and taylor and magnitude compared with explicit sums."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from prunecast.architecture.architecture import LayerImportance
from prunecast.errors import DataError
from prunecast.models.families.layer_parts import layers_of
from prunecast.testing.models import family_of
from prunecast_plugins.pruners.activation import Activation
from prunecast_plugins.pruners.calibrated import CalibratedOptions
from prunecast_plugins.pruners.flap import FLAP
from prunecast_plugins.pruners.magnitude import Magnitude, MagnitudeOptions
from prunecast_plugins.pruners.obs import OBS, OBSOptions
from prunecast_plugins.pruners.random import Random, RandomOptions
from prunecast_plugins.pruners.taylor import Taylor, TaylorOptions

TOKENS = torch.tensor([[3, 14, 15, 92, 65, 35], [8, 9, 79, 32, 38, 46], [2, 64, 33, 83, 27, 95]])

CALIBRATED = {
    "activation": Activation(CalibratedOptions()),
    "flap": FLAP(CalibratedOptions()),
    "obs": OBS(OBSOptions()),
    "obs-alike": OBS(OBSOptions(outputs="alike")),
    "taylor": Taylor(TaylorOptions()),
    "taylor-vector": Taylor(TaylorOptions(aggregation="vector")),
    "taylor-second": Taylor(TaylorOptions(order="second")),
    "taylor-mixed": Taylor(TaylorOptions(order="mixed")),
}
PRUNERS: dict[str, Any] = CALIBRATED | {
    "magnitude": Magnitude(MagnitudeOptions()),
    "random": Random(RandomOptions()),
}

SUMMING = [name for name in CALIBRATED if not name.startswith("obs")]
"""Pruners whose numbers are sums over what belongs to a unit, so that nothing is worth 0; those of obs are ranks."""

every_calibrated = pytest.mark.parametrize("name", list(CALIBRATED))
every_pruner = pytest.mark.parametrize("name", list(PRUNERS))

Score = Callable[[torch.nn.Parameter], torch.Tensor]
Units = tuple[Any, Any, Any]


def rank(pruner: Any, model: Any) -> list[LayerImportance]:
    tokens = TOKENS if pruner.calibration else None
    found: list[LayerImportance] = pruner.rank(model, family_of(model.config), tokens)
    return found


def numbers(layers: list[LayerImportance]) -> list[np.ndarray]:
    return [part for layer in layers for part in (layer.kv_groups, layer.query_heads, layer.mlp_channels)]


def by_hand(model: Any, score: Score) -> list[Units]:
    """Sums of each layer's units with explicit loops over groups, heads and channels."""
    layers = []
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp

        def rows(linear: Any, unit: Any) -> float:
            bias = 0.0 if linear.bias is None else score(linear.bias)[unit].sum().item()
            return float(score(linear.weight)[unit].sum().item() + bias)

        def columns(linear: Any, unit: Any) -> float:
            return float(score(linear.weight)[:, unit].sum().item())

        span = [slice(unit * 8, unit * 8 + 8) for unit in range(8)]
        heads = [
            [rows(attention.q_proj, span[2 * g + h]) + columns(attention.o_proj, span[2 * g + h]) for h in range(2)]
            for g in range(4)
        ]
        groups = [rows(attention.k_proj, span[g]) + rows(attention.v_proj, span[g]) + sum(heads[g]) for g in range(4)]
        channels = [rows(mlp.gate_proj, c) + rows(mlp.up_proj, c) + columns(mlp.down_proj, c) for c in range(24)]
        layers.append((groups, heads, channels))
    return layers


def compare(found: list[LayerImportance], wanted: list[Units], rtol: float = 1e-4, atol: float = 0.0) -> None:
    for layer, (groups, heads, channels) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(layer.kv_groups, groups, rtol, atol)
        np.testing.assert_allclose(layer.query_heads, heads, rtol, atol)
        np.testing.assert_allclose(layer.mlp_channels, channels, rtol, atol)


def sample_gradients(model: Any) -> dict[torch.nn.Parameter, torch.Tensor]:
    """Gradients of each sample's own loss, one autograd call a sample: (samples, *shape) by parameter."""
    parameters = list(model.parameters())
    losses = [torch.nn.functional.cross_entropy(model(row[None]).logits[0, :-1], row[1:]) for row in TOKENS]
    by_sample = [torch.autograd.grad(loss, parameters) for loss in losses]
    return {
        parameter: torch.stack(gradients)
        for parameter, gradients in zip(parameters, zip(*by_sample, strict=True), strict=True)
    }


def changes(model: Any, order: str) -> Score:
    """Change of the mean loss by each weight, with the Taylor terms of ``order``."""
    gradients = sample_gradients(model)

    def change(parameter: torch.nn.Parameter) -> torch.Tensor:
        weight, each = parameter.detach(), gradients[parameter]
        first, second = weight * each.mean(0), weight**2 * (each**2).mean(0) / 2
        return {"first": first, "second": second, "mixed": first - second}[order]

    return change


# ------------------------------------------------------------------------------------------------ every pruner


@every_pruner
def test_ranking_does_not_change_the_weights(name: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("qwen2")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    rank(PRUNERS[name], model)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@every_pruner
def test_the_same_model_and_options_give_the_same_numbers(name: str, tiny_model: Callable[..., Any]) -> None:
    first, second = (numbers(rank(PRUNERS[name], tiny_model("llama"))) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@every_pruner
@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gpt2", "opt", "gemma2"])
def test_every_unit_of_every_family_gets_a_finite_score(name: str, family: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family)
    groups, heads, width = next(layers_of(model, family_of(model.config))).sizes
    shapes = [(groups,), (groups, heads), (width,)] * model.config.num_hidden_layers
    found = numbers(rank(PRUNERS[name], model))
    assert [part.shape for part in found] == shapes
    # A single head has nothing to be compared with in its group.
    assert all(np.isfinite(part).all() and (part.shape[-1] == 1 or len(np.unique(part)) > 1) for part in found)


def hooks_of(model: Any) -> Iterator[object]:
    for module in model.modules():
        yield from module._forward_pre_hooks.values()
        yield from module._forward_hooks.values()
    for parameter in model.parameters():
        yield from (parameter._backward_hooks or {}).values()


@every_calibrated
def test_ranking_removes_its_hooks(name: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    rank(CALIBRATED[name], model)
    assert not list(hooks_of(model))


@every_calibrated
def test_hooks_are_removed_when_a_forward_pass_fails(name: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with pytest.raises(IndexError):
        CALIBRATED[name].rank(model, family_of(model.config), TOKENS + 97)
    assert not list(hooks_of(model))


@every_calibrated
def test_missing_calibration_text_is_an_error(name: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with pytest.raises(DataError, match=f"the {name.partition('-')[0]} pruner needs calibration text: .*calibration:"):
        CALIBRATED[name].rank(model, family_of(model.config), None)


# ------------------------------------------------------------------------------------------------ planted units


@pytest.mark.parametrize("name", SUMMING)
@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gpt2", "opt", "gemma2"])
def test_units_with_zero_output_rank_last(name: str, family: str, tiny_model: Callable[..., Any]) -> None:
    """The zero units: channel 5 of the first layer, and the last query head of KV group 2 of the second."""
    model = tiny_model(family)
    description = family_of(model.config)
    first, second, _ = layers_of(model, description)
    heads = first.sizes.heads_per_group
    head = 2 * heads + heads - 1
    with torch.no_grad():
        first.down.weight()[:, 5] = 0
        second.output.weight()[:, head * 8 : head * 8 + 8] = 0
    found = rank(CALIBRATED[name], model)
    channels, query_heads = found[0].mlp_channels, found[1].query_heads
    assert channels[5] == channels.min() == 0
    assert query_heads[2, heads - 1] == query_heads.min() == 0
    # OPT has channels that no token of so short a text activates.
    assert np.count_nonzero(channels) == channels.size - 1 or family == "opt"
    assert np.count_nonzero(query_heads) == query_heads.size - 1


@every_calibrated
def test_a_kv_group_with_zero_output_ranks_last(name: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("qwen2")
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[:, 2 * 16 : 3 * 16] = 0
    groups = rank(CALIBRATED[name], model)[1].kv_groups
    assert groups.argmin() == 2
    assert groups[2] == 0


# ------------------------------------------------------------------------------------------------------- taylor


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("order", ["first", "second", "mixed"])
def test_taylor_sums_absolute_changes_of_the_mean_loss(family: str, order: Any, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family)
    change = changes(model, order)
    wanted = by_hand(model, lambda parameter: change(parameter).abs())
    compare(rank(Taylor(TaylorOptions(order=order)), model), wanted)


@pytest.mark.parametrize("order", ["first", "second", "mixed"])
def test_vector_aggregation_is_absolute_after_the_sum(order: Any, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("qwen2")
    sums = by_hand(model, changes(model, order))
    wanted = [tuple(np.abs(part) for part in layer) for layer in sums]
    compare(rank(Taylor(TaylorOptions(order=order, aggregation="vector")), model), wanted, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "meant"), [(1, "first"), (2, "second"), ("mixed", "mixed")])
def test_order_can_be_a_number(given: Any, meant: str) -> None:
    assert TaylorOptions(order=given).order == meant


@pytest.mark.parametrize("given", [0, 3, True, "third"])
def test_an_unknown_order_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError, match="order"):
        TaylorOptions(order=given)


def test_the_schema_offers_orders_as_words_and_as_numbers() -> None:
    assert TaylorOptions.model_json_schema()["properties"]["order"]["enum"] == ["first", "second", "mixed", 1, 2]


@pytest.mark.parametrize("given", [{}, {"order": 1}, {"order": "first", "aggregation": "element"}])
def test_explicit_defaults_do_not_change_the_key(given: dict[str, Any]) -> None:
    assert TaylorOptions(**given).model_dump(mode="json", exclude_defaults=True) == {}


# --------------------------------------------------------------------------------------------- magnitude, random


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_magnitude_is_the_sum_of_powers_of_weights(norm: Any, power: int, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("qwen2")
    wanted = by_hand(model, lambda parameter: parameter.abs() ** power)
    compare(rank(Magnitude(MagnitudeOptions(norm=norm)), model), wanted)


def test_random_orders_differ_by_seed_and_by_layer(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    orders = {
        tuple(layer.mlp_channels.argsort())
        for seed in range(3)
        for layer in rank(Random(RandomOptions(seed=seed)), model)
    }
    assert len(orders) == 9
