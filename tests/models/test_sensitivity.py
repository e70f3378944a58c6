"""Changes against the derivatives of loss and score along each step, and what they leave behind."""

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
from prunecast.models.families import family_of, shape_of
from prunecast.models.loss import Loss
from prunecast.models.moments import gather_moments
from prunecast.models.sensitivity import OUTLYING, changes_of

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
    *((1, kept) for kept in (Layer(2, 1, 12), Layer(2, 1, 22), Layer(4, 1, 16), Layer(0, 0, 16), Layer(2, 1, 0))),
    *((2, kept) for kept in (Layer(3, 1, 9), Layer(0, 0, 4), Layer(0, 0, 24))),
]

SHARE = 1e-3
"""Of a step, for the derivative: norms compute in float32, so much less would drown in rounding."""


def values(model: Any, batch: torch.Tensor) -> torch.Tensor:
    """A number for each row of a batch."""
    return model.base_model(batch, use_cache=False).last_hidden_state.sin().sum(dim=(1, 2)) / TOKENS.numel()


def scores(model: Any, batch: torch.Tensor) -> torch.Tensor:
    """Another number for each row of a batch."""
    return model.base_model(batch, use_cache=False).last_hidden_state.cos().sum(dim=(1, 2)) / TOKENS.numel()


def straight(model: Any) -> Iterator[Loss]:
    """Losses without curvature."""
    for batch in TOKENS:
        found = values(model, batch).sum()
        yield Loss(found, [0 * found])


def bent(model: Any) -> Iterator[Loss]:
    """The same with a curvature."""
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
    """``function`` of all rows if a layer put out ``share`` of the way to what it would if it kept ``kept``."""
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
    """That of ``function`` along a step, for each row."""
    ahead, behind = (between(elastic, function, layer, kept, share) for share in (SHARE, -SHARE))
    return (ahead - behind) / (2 * SHARE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_slope_is_the_derivative_along_its_step(family: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family, **FAMILIES[family]).double()
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    found = changes_of(elastic, straight, STEPS)
    assert set(found) == set(STEPS)
    for step, (slope, curvature) in found.items():
        assert curvature == 0.0
        assert slope == pytest.approx(float(derivative(elastic, values, *step).sum()), rel=5e-3, abs=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_curvature_is_half_the_mean_squared_derivative_of_the_scores_row_by_row(
    family: str, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(family, **FAMILIES[family]).double()
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    first, second = changes_of(elastic, straight, STEPS), changes_of(elastic, bent, STEPS)
    for step in STEPS:
        rows = (1 + 4) / 2 * derivative(elastic, scores, *step).square().numpy() / 2
        expected = np.minimum(rows, OUTLYING * np.median(rows)).sum()
        assert second[step][0] == pytest.approx(first[step][0], rel=1e-6)
        assert second[step][1] == pytest.approx(expected, rel=1e-2, abs=1e-5)
    assert max(curvature for _, curvature in second.values()) > 1e-3


def test_a_row_that_a_step_throws_far_out_counts_no_more_than_others_may(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama").double()
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    found = changes_of(elastic, lopsided, STEPS)
    for step in STEPS:
        _, *others = derivative(elastic, scores, *step).square().numpy() / 2
        assert found[step][1] < 3 * OUTLYING * sum(others)


def test_shares_of_a_mean_over_many_tokens_are_not_lost_in_float16(tiny_model: Callable[..., Any]) -> None:
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
        changes = changes_of(elastic, cross_entropy, STEPS)
        found[dtype] = torch.tensor([changes[step][0] for step in STEPS])
    exact, rounded = found.values()
    assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_everything_is_as_it_was_afterwards(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    with torch.inference_mode():
        before = [float(loss.value) for loss in bent(elastic.model)]
        changes_of(elastic, bent, STEPS)
        assert [float(loss.value) for loss in bent(elastic.model)] == before
    assert elastic.architecture == CENTRE
    assert [layer.kept for layer in elastic.layers] == list(CENTRE.layers)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in elastic.model.modules())
    assert all(parameter.grad is None for parameter in elastic.model.parameters())
    assert changes_of(elastic, bent, []) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_that_fill_a_cache_change_nothing(family: str, tiny_model: Callable[..., Any]) -> None:
    """What transformers does unless it is told not to."""

    def losses(model: Any, use_cache: bool) -> Iterator[Loss]:
        for batch in TOKENS:
            hidden = model.base_model(batch, use_cache=use_cache).last_hidden_state
            yield Loss(hidden.sin().sum(), [hidden.cos().sum()])

    model = tiny_model(family, **FAMILIES[family])
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    found = [changes_of(elastic, partial(losses, use_cache=use_cache), STEPS) for use_cache in (False, True)]
    assert found[1] == found[0]


def test_a_step_that_fails_leaves_the_model_where_it_was(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.apply(CENTRE)
    before = changes_of(elastic, bent, STEPS)
    with pytest.raises(ModelError, match="layer 1 of the architecture keeps"):
        changes_of(elastic, bent, [*STEPS, (1, Layer(9, 9, 9))])
    assert elastic.architecture == CENTRE
    assert changes_of(elastic, bent, STEPS) == before


def test_compensation_solved_while_measuring_takes_part(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_model("llama").double()
    moments = gather_moments(
        model, family_of(model.config), list(TOKENS), tmp_path / "moments.safetensors", lambda _: None
    )
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=3))
    elastic.compensation = FromMoments(elastic, moments, "least-squares", 0.01)
    with torch.inference_mode():
        elastic.apply(CENTRE)
        list(bent(elastic.model))
    found = changes_of(elastic, straight, STEPS)
    for step, (slope, curvature) in found.items():
        assert curvature == 0.0
        assert slope == pytest.approx(float(derivative(elastic, values, *step).sum()), rel=5e-3, abs=2e-4)
