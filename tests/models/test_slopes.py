"""First-order changes against the derivative of the loss along each step, and what they leave behind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sliced_models import elastic_of, random_importance

from prunecast.architecture import Architecture, Layer
from prunecast.errors import ModelError
from prunecast.models.compensation import FromMoments
from prunecast.models.elastic import ElasticModel
from prunecast.models.families import family_of, shape_of
from prunecast.models.moments import gather_moments
from prunecast.models.slopes import slopes

FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen3": {},
    "gemma2": {"sliding_window": 5},
    "gpt2": {"n_inner": 24},
    "opt": {"ffn_dim": 24},
}
"""Gated and plain MLPs, norms before and after, and a layer that returns what it returns."""

TOKENS = torch.randint(3, 97, (2, 3, 16), generator=torch.Generator().manual_seed(0))
CENTRE = Architecture([(4, 1, 24), (2, 1, 16), (0, 0, 9)])
STEPS = [
    *((1, kept) for kept in (Layer(2, 1, 12), Layer(4, 1, 16), Layer(0, 0, 16), Layer(2, 1, 0))),
    *((2, kept) for kept in (Layer(3, 1, 9), Layer(0, 0, 24))),
]

SHARE = 1e-3
"""Of a step, for the derivative: norms compute in float32, so much less would drown in rounding."""


def losses(model: Any) -> Iterator[torch.Tensor]:
    for batch in TOKENS:
        yield model.base_model(batch, use_cache=False).last_hidden_state.sin().sum() / TOKENS.numel()


@torch.no_grad()
def loss_between(elastic: ElasticModel, layer: int, kept: Layer, share: float) -> float:
    """The loss if a layer put out ``share`` of the way from what it puts out to what it would if it kept ``kept``."""
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
        between = first + share * (second - first)
        return (between, *output[1:]) if isinstance(output, tuple) else between

    hook = elastic.layers[layer].module.register_forward_hook(mixed, with_kwargs=True)
    total = float(sum(losses(elastic.model)))
    hook.remove()
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_a_slope_is_the_derivative_along_its_step(family: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family, **FAMILIES[family]).double()
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    found = slopes(elastic, losses, STEPS)
    assert set(found) == set(STEPS)
    for (layer, kept), slope in found.items():
        ahead, behind = (loss_between(elastic, layer, kept, share) for share in (SHARE, -SHARE))
        assert slope == pytest.approx((ahead - behind) / (2 * SHARE), rel=5e-3, abs=2e-4)


def test_everything_is_as_it_was_afterwards(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    with torch.inference_mode():
        before = [float(loss) for loss in losses(elastic.model)]
        slopes(elastic, losses, STEPS)
        assert [float(loss) for loss in losses(elastic.model)] == before
    assert elastic.architecture == CENTRE
    assert [layer.kept for layer in elastic.layers] == list(CENTRE.layers)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in elastic.model.modules())
    assert all(parameter.grad is None for parameter in elastic.model.parameters())
    assert slopes(elastic, losses, []) == {}


def test_a_step_that_fails_leaves_the_model_where_it_was(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    before = slopes(elastic, losses, STEPS)
    with pytest.raises(ModelError, match="layer 1 of the architecture keeps"):
        slopes(elastic, losses, [*STEPS, (1, Layer(9, 9, 9))])
    assert elastic.architecture == CENTRE
    assert slopes(elastic, losses, STEPS) == before


def test_compensation_solved_while_measuring_takes_part(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_model("llama").double()
    moments = gather_moments(
        model, family_of(model.config), list(TOKENS), tmp_path / "moments.safetensors", lambda _: None
    )
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.compensation = FromMoments(elastic, moments, "least-squares", 0.01)
    with torch.inference_mode():
        elastic.apply(CENTRE)
        list(losses(elastic.model))
    found = slopes(elastic, losses, STEPS)
    for (layer, kept), slope in found.items():
        ahead, behind = (loss_between(elastic, layer, kept, share) for share in (SHARE, -SHARE))
        assert slope == pytest.approx((ahead - behind) / (2 * SHARE), rel=5e-3, abs=2e-4)
