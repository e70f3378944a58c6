"""Compensation, compared with numpy's least squares on the layer inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pretended_device import pretended_device

from prunecast.architecture.architecture import Architecture, Layer, LayerImportance
from prunecast.errors import ModelError
from prunecast.models import compensation
from prunecast.models.compensation import FromMoments
from prunecast.models.elastic import ElasticModel
from prunecast.models.moments import Moments, gather_moments
from prunecast.testing.models import family_of, shape_of

TOKENS = torch.randint(3, 97, (6, 64), generator=torch.Generator().manual_seed(1))
SIZES = [Layer(4, 2, 17), Layer(4, 1, 24), Layer(3, 2, 1), Layer(2, 1, 23), Layer(1, 1, 5)]


def elastic_of(model: Any) -> ElasticModel:
    shape, rng = shape_of(model.config), np.random.default_rng(0)
    importance = [LayerImportance(rng.random(4), rng.random((4, 2)), rng.random(24)) for _ in shape.dense.layers]
    return ElasticModel(model, family_of(model.config), shape, importance)


def inputs_of(elastic: ElasticModel, tokens: torch.Tensor) -> dict[tuple[int, str], np.ndarray]:
    """Inputs of every output projection of the dense model, float64 of shape (tokens, K)."""
    heard: dict[tuple[int, str], np.ndarray] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, x, key=(index, component): heard.__setitem__(key, x[0].flatten(0, -2).double().numpy())
        )
        for index, layer in enumerate(elastic.layers)
        for component, module in layer.inputs.items()
    ]
    with torch.inference_mode():
        elastic.model(tokens, use_cache=False)
    for hook in hooks:
        hook.remove()
    return heard


def kept_columns(component: str, kept: Layer) -> list[int]:
    if component == "mlp":
        return list(range(kept.mlp_width))
    return [g * 16 + c for g in range(kept.kv_groups) for c in range(kept.heads_per_group * 8)]


def moments_of(model: Any, folder: Path, tokens: torch.Tensor = TOKENS) -> Moments:
    """Moments of the stock model; must be called before the model becomes elastic."""
    path = folder / "moments.safetensors"
    return gather_moments(model, family_of(model.config), tokens.split(4), path, lambda count: None)


def compensated(
    model: Any, folder: Path, method: Literal["bias", "least-squares"], damping: float = 0.0
) -> tuple[ElasticModel, FromMoments]:
    moments = moments_of(model, folder)
    elastic = elastic_of(model)
    return elastic, FromMoments(elastic, moments, method, damping)


@pytest.mark.parametrize("damping", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_least_squares_is_that_of_numpy(
    family: str, damping: float, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    elastic, solver = compensated(tiny_model(family), tmp_path, "least-squares", damping)
    inputs = inputs_of(elastic, TOKENS)
    for (index, component), x in inputs.items():
        weight = elastic.layers[index].inputs[component].weight.flatten(0, 1).double().numpy()  # type: ignore[index]
        pull = np.sqrt(damping * np.mean(np.mean(x**2, axis=0)) * len(x))
        for kept in SIZES:
            stay = kept_columns(component, kept)
            if len(stay) == len(weight):
                continue
            left = np.concatenate([x[:, stay], pull * np.eye(len(stay))])
            right = np.concatenate([x @ weight, pull * weight[stay]])
            wanted = np.linalg.lstsq(left, right, rcond=None)[0]
            found = solver.of(index, component, kept)  # type: ignore[arg-type]
            assert found is not None
            assert found.weight is not None
            np.testing.assert_allclose(found.weight.numpy(), wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max())


def test_bias_is_the_mean_of_the_removed_columns(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    elastic, solver = compensated(tiny_model("qwen2"), tmp_path, "bias")
    inputs = inputs_of(elastic, TOKENS)
    for (index, component), x in inputs.items():
        module = elastic.layers[index].inputs[component]  # type: ignore[index]
        weight = module.weight.flatten(0, 1).double().numpy()
        stay = kept_columns(component, SIZES[3])
        gone = [column for column in range(len(weight)) if column not in stay]
        found = solver.of(index, component, SIZES[3])  # type: ignore[arg-type]
        assert found is not None
        assert found.bias is not None
        np.testing.assert_allclose(found.bias.numpy(), x[:, gone].mean(0) @ weight[gone], rtol=1e-3, atol=1e-4)
        assert found.weight is None  # the remaining weight is a view, so no copy is stored


@pytest.mark.parametrize("method", ["bias", "least-squares"])
def test_compensation_reduces_the_error_of_the_first_layer(
    method: Any, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    def error() -> float:
        with torch.inference_mode():
            hidden = elastic.model(TOKENS, output_hidden_states=True, use_cache=False).hidden_states[1]
        return float((hidden - dense).norm())

    elastic, solver = compensated(tiny_model("llama"), tmp_path, method, 0.001)
    with torch.inference_mode():
        dense = elastic.model(TOKENS, output_hidden_states=True, use_cache=False).hidden_states[1]
    errors = []
    for chosen in (None, solver):
        elastic.apply(elastic.shape.dense)
        elastic.compensation = chosen
        elastic.apply(Architecture([(3, 2, 16), (4, 2, 24), (4, 2, 24)]))
        errors.append(error())
    assert errors[1] < errors[0]


def test_the_dense_model_and_unpruned_components_are_not_compensated(
    tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    elastic, elastic.compensation = compensated(tiny_model("llama"), tmp_path, "least-squares")
    with torch.inference_mode():
        before = elastic.model(TOKENS).logits
        elastic.apply(Architecture([(3, 2, 16), (4, 1, 24), (1, 1, 1)]))
        elastic.apply(elastic.shape.dense)
        assert torch.equal(elastic.model(TOKENS).logits, before)
    assert elastic.compensation.of(0, "attention", Layer(4, 2, 3)) is None
    assert elastic.compensation.of(0, "mlp", Layer(1, 1, 24)) is None


def test_singular_moments_give_finite_numbers_without_damping(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_model("llama")
    moments = moments_of(model, tmp_path, TOKENS[:1, :5])
    solver = FromMoments(elastic_of(model), moments, "least-squares", 0.0)
    found = solver.of(1, "mlp", Layer(4, 2, 20))
    assert found is not None
    assert found.weight is not None
    assert torch.isfinite(found.weight).all()


@pytest.mark.parametrize("damping", [0.0, 0.01, 2.0])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_an_error(
    damping: float, broken: float, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = broken
    _, solver = compensated(model, tmp_path, "least-squares", damping)
    with pytest.raises(ModelError, match=r"mlp inputs in layer 1 .* set model\.dtype to float32"):
        solver.of(1, "mlp", Layer(4, 2, 20))
    # Layers before it are compensated as usual.
    assert solver.of(0, "mlp", Layer(4, 2, 20)) is not None


def test_bounded_cache_gives_the_same_numbers(
    tiny_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elastic, solver = compensated(tiny_model("llama"), tmp_path, "least-squares")
    first = [solver.of(index, "mlp", kept) for index in range(3) for kept in SIZES]
    monkeypatch.setattr(compensation, "CACHE_BYTES", 1)
    small = FromMoments(elastic, Moments(tmp_path / "moments.safetensors"), "least-squares", 0.0)
    again = [small.of(index, "mlp", kept) for index in range(3) for kept in SIZES]
    assert len(small._cache) == 1
    for a, b in zip(first, again, strict=True):
        assert a is None if b is None else torch.equal(a.weight, b.weight)  # type: ignore[union-attr, arg-type]


def test_state_dict_holds_compensated_biases_and_unchanged_weights(
    tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = tiny_model("llama")
    elastic, elastic.compensation = compensated(model, tmp_path, "bias")
    elastic.apply(Architecture([(3, 1, 16), (4, 2, 24), (4, 2, 7)]))
    state = elastic.state_dict()
    found = elastic.compensation.of(2, "mlp", Layer(4, 2, 7))
    assert found is not None
    assert torch.equal(state["model.layers.2.mlp.down_proj.weight"], elastic.layers[2].inputs["mlp"].weight[0, :7].T)
    assert torch.equal(state["model.layers.2.mlp.down_proj.bias"], found.bias)  # type: ignore[arg-type]
    assert "model.layers.1.mlp.down_proj.bias" not in state


def test_state_dict_holds_the_compensated_weights(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    elastic, elastic.compensation = compensated(tiny_model("llama"), tmp_path, "least-squares")
    elastic.apply(Architecture([(3, 1, 16), (4, 2, 24), (4, 2, 7)]))
    found = elastic.compensation.of(2, "mlp", Layer(4, 2, 7))
    assert found is not None
    assert found.weight is not None
    assert torch.equal(elastic.state_dict()["model.layers.2.mlp.down_proj.weight"], found.weight.T)


@pytest.mark.parametrize("method", ["bias", "least-squares"])
def test_a_device_without_float64_gives_the_same_numbers(
    method: Literal["bias", "least-squares"],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    smaller = Architecture([Layer(2, 1, 9), Layer(0, 0, 17), Layer(4, 2, 24)])
    here, here.compensation = compensated(tiny_model("qwen2"), tmp_path, method, 0.01)
    here.apply(smaller)
    with pretended_device(monkeypatch) as device:
        model, moments = tiny_model("qwen2").to(device), Moments(tmp_path / "moments.safetensors")
        there = elastic_of(model)
        there.compensation = FromMoments(there, moments, method, 0.01)
        there.apply(smaller)
        state = {name: tensor.cpu() for name, tensor in there.state_dict().items()}
        logits = model(TOKENS.to(device), use_cache=False).logits.cpu()
    torch.testing.assert_close(logits, here.model(TOKENS, use_cache=False).logits, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(state, here.state_dict(), rtol=1e-4, atol=1e-5)
