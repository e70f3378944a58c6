"""Uniform baselines: parameter counts, and equal rates up to rounding to whole heads."""

from dataclasses import replace

import pytest
from workplace import SMOLLM2

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import Choice
from prunecast.architecture.shape import ModelShape
from prunecast.compare.uniform import TOLERANCE, uniform


@pytest.fixture
def shape() -> ModelShape:
    """The sizes of SmolLM2-135M."""
    return SMOLLM2


CHOICES = tuple(Choice("mlp", (layer,), ((512,), (1536,))) for layer in range(3, 28))


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("kept", [0.99, 0.975, 0.95, 0.9, 0.8, 0.7, 0.6])
def test_a_baseline_has_the_parameter_count_it_is_compared_at(shape: ModelShape, kept: float, attention: bool) -> None:
    dense = int(shape.count([shape.dense])[0])
    found = uniform(shape, CHOICES, int(kept * dense), attention=attention)
    assert 0 <= 1 - int(shape.count([found])[0]) / int(kept * dense) <= TOLERANCE
    assert {layer for number, layer in enumerate(found.layers) if number < 3 or number >= 28} == {(3, 3, 1536)}
    assert len(set(found.layers[3:28])) == 1
    if not attention:
        assert found.layers[3][:2] == (3, 3)


def test_heads_are_pruned_at_the_rate_of_the_mlp(shape: ModelShape) -> None:
    cut = [uniform(shape, CHOICES, int(share * 134_515_008), attention=True).layers[10] for share in (0.95, 0.8, 0.6)]
    shares = [(layer.query_heads / 9, layer.mlp_width / 1536) for layer in cut]
    assert all(abs(heads - mlp) < 0.17 for heads, mlp in shares)
    assert shares == sorted(shares, reverse=True)


def test_an_unreachable_count_gives_the_nearest_uniform_architecture(shape: ModelShape) -> None:
    assert uniform(shape, CHOICES, 1000, attention=False).layers[3] == (3, 3, 0)
    assert uniform(shape, CHOICES, 1000, attention=True).layers[3] == (0, 0, 0)


def test_layers_that_differ_keep_the_same_share(shape: ModelShape) -> None:
    layers = ((3, 3, 1536), (3, 2, 768), (0, 0, 512), (2, 3, 0), (1, 1, 1))
    sizes = Architecture([layer for layer in layers for _ in range(6)])
    smaller = replace(shape, dense=sizes)
    choices = tuple(Choice("mlp", (layer,), ((0,), (1,))) for layer in range(30))
    dense = int(smaller.count([sizes])[0])
    found = uniform(smaller, choices, int(0.93 * dense), attention=False)
    assert 0.93 * dense * (1 - TOLERANCE) < int(smaller.count([found])[0]) <= 0.93 * dense
    assert [layer[:2] for layer in found.layers] == [layer[:2] for layer in sizes.layers]
    share = found.layers[0].mlp_width / 1536
    assert 0.5 < share < 0.9
    assert [layer.mlp_width for layer in found.layers[::6]] == pytest.approx(
        [share * 1536, share * 768, share * 512, 0, 1], abs=0.5
    )
    both = uniform(smaller, choices, int(0.8 * dense), attention=True)
    assert all(k <= d for a, b in zip(both.layers, sizes.layers, strict=True) for k, d in zip(a, b, strict=True))
    assert both.layers[0].query_heads < 9
    assert both.layers[6].query_heads < 6
    assert both.layers[18].query_heads < 6
    assert both.layers[24][:2] == (1, 1)
