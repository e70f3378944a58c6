"""Local sensitivities, compared with numerical derivatives of loss and score, and restoration of the model."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sliced_models import elastic_of, random_importance

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import ModelError
from prunecast.models.compensation import FromMoments
from prunecast.models.elastic import ElasticModel, convert_parameters
from prunecast.models.loss import Loss
from prunecast.models.moments import gather_moments
from prunecast.models.sensitivity import OUTLYING, local_sensitivities
from prunecast.testing.models import family_of, shape_of

FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen3": {},
    "gemma2": {"sliding_window": 5},
    "gpt2": {"n_inner": 24},
    "opt": {"ffn_dim": 24},
}
"""Families with gated and plain MLPs, norms before and after the components, and sliding-window attention."""

TOKENS = torch.randint(3, 97, (2, 3, 16), generator=torch.Generator().manual_seed(0))
CENTRE = Architecture([(4, 1, 24), (2, 1, 16), (0, 0, 9)])
STEPS = [
    *((1, kept) for kept in (Layer(2, 1, 12), Layer(2, 1, 22), Layer(4, 1, 16), Layer(0, 0, 16), Layer(2, 1, 0))),
    *((2, kept) for kept in (Layer(3, 1, 9), Layer(0, 0, 4), Layer(0, 0, 24))),
]

SHARE = 1e-3
"""Fraction of a step for the finite difference; norms compute in float32, so a much smaller one is lost in rounding."""


def values(model: Any, batch: torch.Tensor) -> torch.Tensor:
    """Loss of each row of a batch."""
    return model.base_model(batch, use_cache=False).last_hidden_state.sin().sum(dim=(1, 2)) / TOKENS.numel()


def scores(model: Any, batch: torch.Tensor) -> torch.Tensor:
    """Score of each row of a batch."""
    return model.base_model(batch, use_cache=False).last_hidden_state.cos().sum(dim=(1, 2)) / TOKENS.numel()


def straight(model: Any) -> Iterator[Loss]:
    """Losses without curvature."""
    for batch in TOKENS:
        found = values(model, batch).sum()
        yield Loss(found, [0 * found])


def bent(model: Any) -> Iterator[Loss]:
    """Losses of the same value, with curvature."""
    for batch in TOKENS:
        hidden = model.base_model(batch, use_cache=False).last_hidden_state
        score = hidden.cos().sum() / TOKENS.numel()
        yield Loss(hidden.sin().sum() / TOKENS.numel(), [score, 2 * score])


def lopsided(model: Any) -> Iterator[Loss]:
    """Losses whose curvature is nearly all in the first row."""
    for batch, weight in zip(TOKENS, (1000.0, 1.0), strict=True):
        found = scores(model, batch)
        yield Loss(values(model, batch).sum(), [weight * found[0] + found[1:].sum()])


@torch.no_grad()
def between(elastic: ElasticModel, function: Any, layer: int, kept: Layer, share: float) -> torch.Tensor:
    """``function`` of all rows with the layer's output moved by ``share`` towards its output if it kept ``kept``."""
    centre = elastic.architecture
    changed = Architecture((*centre.layers[:layer], kept, *centre.layers[layer + 1 :]))
    inside: list[bool] = []

    def mixed(module: Any, arguments: Any, options: Any, output: Any) -> Any:
        if inside:
            return output
        inside.append(True)
        elastic.apply(changed)
        other = module(*arguments, **options)
        elastic.apply(centre)
        inside.clear()
        first, second = (each[0] if isinstance(each, tuple) else each for each in (output, other))
        mixture = first + share * (second - first)
        return (mixture, *output[1:]) if isinstance(output, tuple) else mixture

    hook = elastic.layers[layer].module.register_forward_hook(mixed, with_kwargs=True)
    found = torch.cat([function(elastic.model, batch) for batch in TOKENS])
    hook.remove()
    return found


def derivative(elastic: ElasticModel, function: Any, layer: int, kept: Layer) -> torch.Tensor:
    """Central difference of ``function`` along a step, for each row."""
    ahead, behind = (between(elastic, function, layer, kept, share) for share in (SHARE, -SHARE))
    return (ahead - behind) / (2 * SHARE)


@pytest.mark.parametrize("family", FAMILIES)
def test_slope_is_the_derivative_of_the_loss_along_the_step(family: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family, **FAMILIES[family]).double()
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    found = local_sensitivities(elastic, straight, STEPS)
    assert set(found) == set(STEPS)
    for step, (slope, curvature) in found.items():
        assert curvature == 0.0
        assert slope == pytest.approx(float(derivative(elastic, values, *step).sum()), rel=5e-3, abs=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_curvature_is_half_the_squared_score_derivative_per_row(family: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family, **FAMILIES[family]).double()
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    first, second = local_sensitivities(elastic, straight, STEPS), local_sensitivities(elastic, bent, STEPS)
    for step in STEPS:
        rows = (1 + 4) / 2 * derivative(elastic, scores, *step).square().numpy() / 2
        expected = np.minimum(rows, OUTLYING * np.median(rows)).sum()
        assert second[step][0] == pytest.approx(first[step][0], rel=1e-6)
        assert second[step][1] == pytest.approx(expected, rel=1e-2, abs=1e-5)
    assert max(curvature for _, curvature in second.values()) > 1e-3


def test_outlying_rows_are_winsorised(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama").double()
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    found = local_sensitivities(elastic, lopsided, STEPS)
    for step in STEPS:
        _, *others = derivative(elastic, scores, *step).square().numpy() / 2
        assert found[step][1] < 3 * OUTLYING * sum(others)


def test_small_loss_shares_do_not_underflow_in_float16(tiny_model: Callable[..., Any]) -> None:
    def cross_entropy(model: Any) -> Iterator[Loss]:
        for batch in TOKENS:
            logits = model(batch, use_cache=False).logits[:, :-1].float()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum")
            yield Loss(loss / 2**16, [0 * loss])

    found = {}
    for dtype in (torch.float32, torch.float16):
        model = tiny_model("llama", vocab_size=2000)
        convert_parameters(model, dtype)
        elastic = elastic_of(model, random_importance(shape_of(model.config), 0))
        elastic.apply(CENTRE)
        changes = local_sensitivities(elastic, cross_entropy, STEPS)
        found[dtype] = torch.tensor([changes[step][0] for step in STEPS])
    exact, rounded = found.values()
    assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_measuring_sensitivities_restores_the_model(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    with torch.inference_mode():
        before = [float(loss.value) for loss in bent(elastic.model)]
        local_sensitivities(elastic, bent, STEPS)
        assert [float(loss.value) for loss in bent(elastic.model)] == before
    assert elastic.architecture == CENTRE
    assert [layer.kept for layer in elastic.layers] == list(CENTRE.layers)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in elastic.model.modules())
    assert all(parameter.grad is None for parameter in elastic.model.parameters())
    assert local_sensitivities(elastic, bent, []) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_with_a_kv_cache_give_the_same_sensitivities(family: str, tiny_model: Callable[..., Any]) -> None:
    """Caching is the default of transformers."""

    def losses(model: Any, use_cache: bool) -> Iterator[Loss]:
        for batch in TOKENS:
            hidden = model.base_model(batch, use_cache=use_cache).last_hidden_state
            yield Loss(hidden.sin().sum(), [hidden.cos().sum()])

    model = tiny_model(family, **FAMILIES[family])
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    found = [local_sensitivities(elastic, partial(losses, use_cache=use_cache), STEPS) for use_cache in (False, True)]
    assert found[1] == found[0]


def test_a_failing_step_restores_the_model(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    before = local_sensitivities(elastic, bent, STEPS)
    with pytest.raises(ModelError, match="layer 1 of the architecture keeps"):
        local_sensitivities(elastic, bent, [*STEPS, (1, Layer(9, 9, 9))])
    assert elastic.architecture == CENTRE
    assert local_sensitivities(elastic, bent, STEPS) == before


def test_compensation_solved_while_measuring_affects_the_slopes(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_model("llama").double()
    moments = gather_moments(
        model, family_of(model.config), list(TOKENS), tmp_path / "moments.safetensors", lambda _: None
    )
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.compensation = FromMoments(elastic, moments, "least-squares", 0.01)
    with torch.inference_mode():
        elastic.apply(CENTRE)
        list(bent(elastic.model))
    found = local_sensitivities(elastic, straight, STEPS)
    for step, (slope, curvature) in found.items():
        assert curvature == 0.0
        assert slope == pytest.approx(float(derivative(elastic, values, *step).sum()), rel=5e-3, abs=2e-4)
