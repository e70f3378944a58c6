"""The layerwise space."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import architectures_at
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.errors import ModelError
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions


def space_of(shape: ModelShape, **options: object) -> Layerwise:
    return Layerwise(LayerwiseOptions.model_validate(options), shape)


def test_values_are_every_split_of_the_heads_nearest_to_each_rate(shape: ModelShape) -> None:
    choices = {c.name: c.values for c in space_of(shape, attention=[0, 0.33, 0.67, 1], mlp=[0, 0.5, 1]).choices}
    assert choices["attention.0"] == ((0, 0), (1, 3), (3, 1), (2, 3), (3, 2), (3, 3))
    assert choices["mlp.11"] == ((0,), (48,), (96,))
    assert len(choices) == 24


def test_rate_below_one_never_removes_everything(shape: ModelShape) -> None:
    space = space_of(shape, attention=[0, 0.99], mlp=[0, 0.999], round_width=64)
    assert [choice.values[0] for choice in space.choices[:12]] == [(1, 1)] * 12
    assert [choice.values[0] for choice in space.choices[12:]] == [(64,)] * 12


@pytest.mark.parametrize(
    ("layers", "covered"), [(":", range(12)), ("3:-2", range(3, 10)), ("-2:", (10, 11)), (":12", range(12))]
)
def test_layer_range_is_a_python_slice(layers: str, covered: range, shape: ModelShape) -> None:
    space = space_of(shape, layers=layers, attention=[])
    assert [choice.layers for choice in space.choices] == [(layer,) for layer in covered]


@pytest.mark.parametrize("layers", ["3:28", "-13:", "5:5", "0:-12"])
def test_layers_that_the_model_does_not_have_are_refused(layers: str, shape: ModelShape) -> None:
    with pytest.raises(ModelError, match="12 layers"):
        _ = space_of(shape, layers=layers).choices


@pytest.mark.parametrize("options", [{"layers": "200"}, {"attention": [], "mlp": []}, {"mlp": [1.5]}, {"tie": 0}])
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LayerwiseOptions.model_validate(options)


def test_a_single_rate_is_refused(shape: ModelShape) -> None:
    with pytest.raises(ModelError, match="at least two different rates"):
        _ = space_of(shape, attention=[0], mlp=[0, 0]).choices


@settings(deadline=None)
@given(st.integers(1, 40), st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_widths_are_multiples_of_the_rounding_or_dense(step: int, rates: list[float]) -> None:
    cost = LayerCost(ComponentCost(1, 1), ComponentCost(1, 1))
    shape = ModelShape("llama", Architecture([(3, 3, 96)]), 8, 8, 9, 9, 9, 9, (cost,))
    try:
        choices = space_of(shape, attention=[], mlp=rates, round_width=step).choices
    except ModelError:
        return
    assert all(width % step == 0 or width == 96 for choice in choices for (width,) in choice.values)


def test_tied_layers_always_take_the_same_value(shape: ModelShape) -> None:
    space = space_of(shape, layers="1:12", tie=4)
    assert [choice.layers for choice in space.choices[:3]] == [(1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11)]
    for architecture in architectures_at(space.choices, shape.dense, space.sample(20, np.random.default_rng(0))):
        assert len(set(architecture.layers[1:5])) == len(set(architecture.layers[5:9])) == 1


def test_tied_share_of_the_samples_has_tied_layers(shape: ModelShape) -> None:
    space = space_of(shape, sampling={"tie": 4, "tied_share": 0.75})
    samples = architectures_at(space.choices, shape.dense, space.sample(40, np.random.default_rng(0)))
    tied = [all(len(set(a.layers[s : s + 4])) == 1 for s in (0, 4, 8)) for a in samples]
    assert tied == [True] * 30 + [False] * 10


def test_samples_reach_every_value_and_repeat_from_a_seed(shape: ModelShape) -> None:
    space = space_of(shape)
    sample = space.sample(500, np.random.default_rng(3))
    assert (sample == space.sample(500, np.random.default_rng(3))).all()
    assert [set(sample[:, c]) for c in range(24)] == [set(range(len(choice.values))) for choice in space.choices]


def test_near_samples_keep_mlps_within_reach_of_a_uniform_position(shape: ModelShape) -> None:
    sampling = {"draw": "near", "reach": 2, "attention": [0.8, 0.8], "mlp": [0.5, 0.5]}
    space = space_of(shape, attention=[0, 0.33, 0.67, 1], mlp=[k / 10 for k in range(11)], sampling=sampling)
    attention, mlp = np.split(space.sample(300, np.random.default_rng(0)), 2, axis=1)
    assert (attention == 5).mean() == pytest.approx(0.8, abs=0.02)
    assert all((attention == position).mean() == pytest.approx(0.04, abs=0.01) for position in range(5))
    assert set(np.unique(mlp)) == {3, 4, 5, 6, 7}
    assert np.ptp(mlp, axis=1).max() == 4


def test_sampled_shares_stay_in_their_range_and_a_reversed_range_is_refused(shape: ModelShape) -> None:
    sampling = {"attention": [0.9, 1.0], "mlp": [0.0, 0.1]}
    space = space_of(shape, attention=[0, 0.33, 0.67, 1], mlp=[k / 10 for k in range(11)], sampling=sampling)
    attention, mlp = np.split(space.sample(300, np.random.default_rng(0)), 2, axis=1)
    assert attention.mean() > 4.5
    assert mlp.mean() < 1
    with pytest.raises(ValidationError, match=r"give the smaller share first, \[0.2, 0.9\]"):
        space_of(shape, sampling={"mlp": [0.9, 0.2]})
