"""The uniform space."""

import re
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import architectures_at, sizes_at
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ModelError
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions
from prunecast_plugins.spaces.uniform import Uniform, UniformOptions


def space_of(shape: ModelShape, **options: object) -> Uniform:
    return Uniform(UniformOptions.model_validate(options), shape)


def test_all_layers_that_are_left_have_the_same_sizes(shape: ModelShape) -> None:
    space = space_of(shape, drop={"layers": "2:-1", "block": 3})
    assert [choice.name for choice in space.choices] == [
        "attention.0-11",
        "mlp.0-11",
        "layer.2-4",
        "layer.5-7",
        "layer.8-10",
    ]
    samples = architectures_at(space.choices, shape.dense, space.sample(60, np.random.default_rng(0)))
    left = [[layer for layer in architecture.layers if any(layer)] for architecture in samples]
    assert all(len(set(layers)) == 1 for layers in left)
    assert {len(layers) for layers in left} == {3, 6, 9, 12}
    assert len({layers[0] for layers in left}) > 30


def test_rates_give_the_values_of_the_layerwise_space(shape: ModelShape) -> None:
    rates = {"attention": [0, 0.33, 0.67], "mlp": [0, 0.25, 0.5], "round_width": 8}
    values = {choice.component: choice.values for choice in space_of(shape, layers="1:", **rates).choices}
    layerwise = Layerwise(LayerwiseOptions.model_validate(rates), shape).choices
    assert values == {choice.component: choice.values for choice in layerwise}
    space = space_of(shape, **rates, drop={})
    attention, mlp, *whole = space.choices
    assert (space.values_at(attention, 1), space.values_at(mlp, 0.75)) == (((0, 0),), ((24,),))
    assert [space.values_at(choice, 0.5) for choice in whole] == [()] * 10


def test_budgets_are_used_up_though_the_cost_of_a_width_depends_on_the_layers_left(shape: ModelShape) -> None:
    space, budget = space_of(shape, drop={}), Budget.of(shape, {"parameters": 0.6, "kv_cache_bytes": 0.7})
    rng = np.random.default_rng(0)
    fitted = budget.fit(space.choices, space.sample(200, rng), rng)
    assert (budget.usage(sizes_at(space.choices, shape.dense, fitted)) <= 1).all()
    for column, choice in enumerate(space.choices):
        raised = fitted[fitted[:, column] + 1 < len(choice.values)]
        raised[:, column] += 1
        assert (budget.usage(sizes_at(space.choices, shape.dense, raised)) > 1).all()
    assert len({int((row[2:] == 0).sum()) for row in fitted}) > 3


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {},
            "space uniform: layers 0 and 4 differ in size, as the model has been pruned before: "
            "use space layerwise or depth",
        ),
        ({"layers": "5:", "drop": {"layers": "20:"}}, "space.drop.layers '20:' exceeds the model's 12 layers"),
        (
            {"layers": "5:", "mlp": [0], "attention": []},
            "the space leaves nothing to choose: give attention or mlp at least two different rates",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_in_one_line(
    options: dict[str, object], problem: str, shape: ModelShape
) -> None:
    pruned = replace(shape, dense=Architecture([*shape.dense.layers[:4], (3, 3, 95), *shape.dense.layers[5:]]))
    with pytest.raises(ModelError, match=f"^{re.escape(problem)}$"):
        _ = space_of(pruned, **options).choices


def test_options_without_sizes_are_refused() -> None:
    with pytest.raises(ValidationError, match="for whole layers alone, use space depth"):
        UniformOptions.model_validate({"attention": [], "mlp": [], "drop": {}})
    with pytest.raises(ValidationError, match="'3-9' is not a range of layers"):
        UniformOptions.model_validate({"drop": {"layers": "3-9"}})
