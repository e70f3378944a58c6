"""Costs and budgets, compared with hand counts and brute force."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecast.architecture.architecture import Architecture, sizes_of
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import (
    Choice,
    Component,
    architectures_at,
    cut_rates,
    indices_of,
    sizes_at,
    value_costs,
)
from prunecast.architecture.shape import QUANTITIES, ComponentCost, LayerCost, ModelShape, Quantity
from prunecast.errors import BudgetError

SHAPE = ModelShape(
    family="llama",
    dense=Architecture([(2, 2, 8)] * 3),
    hidden_size=16,
    head_dim=4,
    vocabulary=50,
    context=32,
    embeddings=800,
    fixed=816,
    layers=(
        LayerCost(
            ComponentCost(base=16, unit=2 * 4 * 16 + 8, head=2 * 4 * 16 + 4, unit_vectors=8, head_vectors=4),
            ComponentCost(base=16, unit=3 * 16),
        ),
    )
    * 3,
)
CHOICES = (
    Choice("attention", (0,), ((0, 0), (1, 2), (2, 1), (2, 2))),
    Choice("attention", (1, 2), ((1, 1), (2, 2))),
    Choice("mlp", (0, 1), ((0,), (4,), (8,))),
    Choice("mlp", (2,), ((2,), (8,))),
)
EVERY = np.array(list(itertools.product(range(4), range(2), range(3), range(2))), dtype=np.int64)


def test_costs_are_those_counted_by_hand() -> None:
    architecture = Architecture([(1, 2, 3), (0, 0, 8), (2, 1, 0)])
    one = 16 + 136 + 2 * 132 + 16 + 3 * 48
    two = 16 + 8 * 48
    three = 16 + 2 * 136 + 2 * 132
    assert SHAPE.count([architecture])[0] == 816 + one + two + three
    assert SHAPE.count([architecture], "parameters_without_embeddings")[0] == 16 + one + two + three
    assert SHAPE.count([architecture], "kv_cache_bytes")[0] == 3 * 2 * 4 * 2
    scores = 2 * 4 * 32 * (2 + 2)
    macs = 50 * 16 + (128 + 2 * 128 + 3 * 48) + 8 * 48 + (2 * 128 + 2 * 128) + scores
    assert SHAPE.count([architecture], "macs")[0] == macs


def test_indices_and_architectures_are_inverse_over_the_whole_space() -> None:
    architectures = architectures_at(CHOICES, SHAPE.dense, EVERY)
    assert len(set(architectures)) == len(EVERY)
    for row, architecture in zip(EVERY, architectures, strict=True):
        found = indices_of(CHOICES, SHAPE.dense, architecture)
        assert found is not None
        assert found.tolist() == row.tolist()
    assert indices_of(CHOICES, SHAPE.dense, Architecture([(2, 2, 7)] * 3)) is None
    assert indices_of(CHOICES, SHAPE.dense, Architecture([(2, 2, 8), (1, 1, 8), (2, 2, 8)])) is None


@settings(deadline=None)
@given(st.sampled_from(QUANTITIES), st.floats(0.3, 1.0), st.integers(0, 99))
def test_fitted_proposals_meet_the_budget_and_are_maximal(quantity: str, share: float, seed: int) -> None:
    budget = Budget.of(SHAPE, {quantity: share})  # type: ignore[dict-item]
    rng = np.random.default_rng(seed)
    try:
        budget.check(CHOICES)
    except BudgetError:
        return
    fitted = budget.fit(CHOICES, EVERY, rng)
    assert (budget.usage(sizes_at(CHOICES, SHAPE.dense, fitted)) <= 1).all()
    for column, choice in enumerate(CHOICES):
        raised = fitted.copy()
        raised[:, column] += 1
        possible = raised[raised[:, column] < len(choice.values)]
        assert (budget.usage(sizes_at(CHOICES, SHAPE.dense, possible)) > 1).all()


def test_fit_reaches_every_maximal_architecture_of_a_tiny_space() -> None:
    budget = Budget.of(SHAPE, {"parameters": 0.75})
    met = [
        tuple(row)
        for row in EVERY.tolist()
        if budget.met_by(architectures_at(CHOICES, SHAPE.dense, np.array([row]))[0])
    ]

    def can_grow(row: tuple[int, ...]) -> bool:
        return any(tuple(v + (i == c) for i, v in enumerate(row)) in met for c in range(len(row)))

    maximal = {row for row in met if not can_grow(row)}
    fitted = budget.fit(CHOICES, np.repeat(EVERY, 50, axis=0), np.random.default_rng(0))
    assert set(map(tuple, fitted.tolist())) == maximal


def test_fit_copies_its_input_and_is_reproducible_from_a_seed() -> None:
    budget, before = Budget.of(SHAPE, {"parameters": 0.7}), EVERY.copy()
    first = budget.fit(CHOICES, EVERY, np.random.default_rng(1))
    assert (before == EVERY).all()
    assert (first == budget.fit(CHOICES, EVERY, np.random.default_rng(1))).all()


def test_budget_up_to_one_is_a_fraction_and_above_one_a_count() -> None:
    dense = int(SHAPE.count([SHAPE.dense])[0])
    assert Budget.of(SHAPE, {"parameters": 1}).limits == {"parameters": dense}
    assert Budget.of(SHAPE, {"parameters": 0.5}).limits == {"parameters": dense // 2}
    assert Budget.of(SHAPE, {"parameters": 1234}).limits == {"parameters": 1234}
    assert Budget.of(SHAPE, {}).met_by(SHAPE.dense)


def test_impossible_budget_names_the_smallest_possible() -> None:
    with pytest.raises(BudgetError, match=r"meets parameters <= .* the smallest has .* at least 0\.\d+") as raised:
        Budget.of(SHAPE, {"parameters": 0.1}).check(CHOICES)
    suggested = float(str(raised.value).split("at least ")[1].split(",")[0])
    Budget.of(SHAPE, {"parameters": suggested}).check(CHOICES)


def test_tied_layers_have_equal_sizes() -> None:
    sizes = sizes_at(CHOICES, SHAPE.dense, np.array([[0, 0, 1, 0]]))
    assert sizes.tolist() == [[[0, 0, 4], [1, 1, 4], [1, 1, 2]]]
    assert (sizes_of(architectures_at(CHOICES, SHAPE.dense, np.array([[0, 0, 1, 0]]))) == sizes).all()


GROUPED = replace(SHAPE, dense=Architecture([(8, 2, 8)] * 2), layers=SHAPE.layers[:2])
"""Eight KV groups of two query heads, as Qwen3 has them."""

UNEVEN = tuple(
    Choice(component, (layer,), values)
    for component, values in (("attention", ((5, 1), (3, 2), (6, 1), (4, 2), (8, 1), (8, 2))), ("mlp", ((4,), (8,))))
    for layer in (0, 1)
)
"""Values ascend in heads kept but not in cost: caching five groups of one head costs more than three groups of two."""


@pytest.mark.parametrize("limits", [{"kv_cache_bytes": 0.5}, {"parameters": 0.75, "kv_cache_bytes": 0.5}])
def test_a_cache_budget_is_used_up_when_cost_is_not_monotonic_in_heads(limits: dict[Quantity, float]) -> None:
    budget = Budget.of(GROUPED, limits)
    start = np.array(list(itertools.product(range(6), range(6), range(2), range(2))), dtype=np.int64)
    fitted = budget.fit(UNEVEN, start, np.random.default_rng(0))
    sizes = sizes_at(UNEVEN, GROUPED.dense, fitted)
    assert (budget.usage(sizes) <= 1).all()
    assert budget.usage(sizes).min() > 0.9
    if len(limits) == 1:
        assert (sizes[..., 0] == 4).all()
        assert (sizes[..., 2] == 8).all()


TRADED = tuple(
    Choice(component, (layer,), values)
    for component, values in (("attention", ((5, 2), (4, 4), (8, 2), (8, 4))), ("mlp", ((4,), (8,))))
    for layer in (0, 1)
)
"""Rates 0, 0.5 and 0.7 of eight KV groups of four heads: of the two smallest values, one has fewer parameters and the
other a smaller KV cache."""


@pytest.mark.parametrize("other", ["parameters", "macs"])
def test_two_limits_are_met_by_values_other_than_the_smallest(other: Quantity) -> None:
    shape = replace(SHAPE, dense=Architecture([(8, 4, 8)] * 2), layers=SHAPE.layers[:2])
    budget = Budget.of(shape, {other: 0.9, "kv_cache_bytes": 0.5})
    start = np.array(list(itertools.product(range(4), range(4), range(2), range(2))), dtype=np.int64)
    sizes = sizes_at(TRADED, shape.dense, budget.fit(TRADED, start, np.random.default_rng(0)))
    assert (budget.usage(sizes) == 1).all()
    assert (sizes[..., :2] == (4, 4)).all()


def test_the_smallest_possible_cost_uses_the_cheapest_values() -> None:
    with pytest.raises(BudgetError, match="the smallest has 96"):
        Budget.of(GROUPED, {"kv_cache_bytes": 90}).check(UNEVEN)
    Budget.of(GROUPED, {"kv_cache_bytes": 96}).check(UNEVEN)


VALUES: dict[Component, tuple[tuple[int, ...], ...]] = {
    "attention": ((0, 0), (1, 1), (1, 2), (2, 2)),
    "mlp": ((0,), (1,), (3,), (8,)),
}
"""Values that cost the more the larger they are, in every quantity."""


@st.composite
def tiny_spaces(draw: st.DrawFn) -> tuple[ModelShape, tuple[Choice, ...]]:
    """A model of two or three layers that differ in everything, and a space of choices that may be tied or missing.

    Whole layers may be choices, too, with or without choices of their components.
    """
    number = st.integers(0, 40)
    cost = st.builds(
        ComponentCost, number, st.integers(4, 40), st.integers(4, 40), st.integers(0, 4), st.integers(0, 4)
    )
    layer = st.builds(LayerCost, cost, cost, st.sampled_from([0, 0, 9, 300]), st.sampled_from([None, 5, 31, 64]))
    layers = tuple(draw(st.lists(layer, min_size=2, max_size=3)))
    depth = len(layers)
    shape = replace(SHAPE, dense=Architecture([(2, 2, 8)] * depth), layers=layers)
    choices = []
    for component, values in VALUES.items():
        for covered in draw(st.sampled_from([[(0,), (1,)], [(0, 1)], [(depth - 1,)], [(0, depth - 1)]])):
            kept = draw(st.lists(st.sampled_from(values), min_size=2, max_size=4, unique=True))
            choices.append(Choice(component, covered, tuple(sorted(kept))))
    blocks: list[tuple[int, ...]] = draw(st.sampled_from([[], [], [(0,)], [(0, depth - 1)], [(depth - 1,), (0,)]]))
    choices += [Choice("layer", block, ((0,), (1,))) for block in blocks]
    return shape, tuple(choices)


@settings(deadline=None, max_examples=300)
@given(tiny_spaces(), st.sampled_from(QUANTITIES), st.floats(0.05, 1.0), st.integers(0, 99))
def test_layers_that_differ_meet_a_budget_exactly(
    space: tuple[ModelShape, tuple[Choice, ...]], quantity: Quantity, share: float, seed: int
) -> None:
    shape, choices = space
    budget = Budget.of(shape, {quantity: share})
    every = np.array(list(itertools.product(*(range(len(choice.values)) for choice in choices))), dtype=np.int64)
    met = {
        tuple(row)
        for row, architecture in zip(every.tolist(), architectures_at(choices, shape.dense, every), strict=True)
        if int(shape.count([architecture], quantity)[0]) <= budget.limits[quantity]
    }
    if not met:
        with pytest.raises(BudgetError):
            budget.fit(choices, every, np.random.default_rng(seed))
        return
    fitted = budget.fit(choices, every, np.random.default_rng(seed))
    for row in map(tuple, fitted.tolist()):
        assert row in met
        for column in range(len(choices)):
            assert (*row[:column], row[column] + 1, *row[column + 1 :]) not in met


@settings(deadline=None, max_examples=100)
@given(tiny_spaces(), st.floats(0.3, 1.0), st.floats(0.3, 1.0), st.integers(0, 99))
def test_no_limit_of_several_is_exceeded(
    space: tuple[ModelShape, tuple[Choice, ...]], parameters: float, cache: float, seed: int
) -> None:
    shape, choices = space
    budget = Budget.of(shape, {"parameters": parameters, "macs": 0.9, "kv_cache_bytes": cache}, context=20)
    every = np.array(list(itertools.product(*(range(len(choice.values)) for choice in choices))), dtype=np.int64)
    try:
        fitted = budget.fit(choices, every, np.random.default_rng(seed))
    except BudgetError:
        return
    architectures = architectures_at(choices, shape.dense, fitted)
    for quantity, limit in budget.limits.items():
        assert shape.at(20).count(architectures, quantity).max() <= limit


def test_a_context_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(BudgetError, match="context 33 is longer than the model's: set it to 32 or less"):
        Budget.of(SHAPE, {"macs": 0.5}, context=33)
    assert Budget.of(SHAPE, {"macs": 0.5}, context=32) == Budget.of(SHAPE, {"macs": 0.5})


def test_layers_that_share_costs_are_removed_where_only_that_meets_the_budget() -> None:
    """Without its components a layer has no shared costs, which no value alone can save."""
    shape = replace(SHAPE, layers=tuple(replace(layer, shared=5000) for layer in SHAPE.layers))
    choices = (Choice("attention", (0,), ((0, 0), (2, 2))), Choice("mlp", (0,), ((0,), (8,))))
    dense, without = shape.count([shape.dense, Architecture([(0, 0, 0), *shape.dense.layers[1:]])]).tolist()
    budget = Budget(shape, {"parameters": dense - 5000})
    assert dense - without > 5000
    every = np.array(list(itertools.product(range(2), range(2))), dtype=np.int64)
    assert budget.fit(choices, every, np.random.default_rng(0)).tolist() == [[0, 0]] * 4


LAYERS = (
    Choice("attention", (0, 1), ((0, 0), (1, 2), (2, 2))),
    Choice("mlp", (0, 1, 2), ((4,), (8,))),
    Choice("layer", (1,), ((0,), (1,))),
    Choice("layer", (0, 2), ((0,), (1,))),
)
EVERY_LAYERS = np.array(list(itertools.product(range(3), range(2), range(2), range(2))), dtype=np.int64)


def test_a_layer_that_is_gone_has_no_size_whatever_other_choices_say() -> None:
    sizes = sizes_at(LAYERS, SHAPE.dense, np.array([[1, 0, 1, 1], [1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 0, 0]]))
    kept, gone, last = [1, 2, 4], [0, 0, 0], [2, 2, 4]
    assert sizes.tolist() == [[kept, kept, last], [kept, gone, last], [gone, kept, gone], [gone] * 3]


def test_the_order_of_choices_makes_no_difference_to_layers_that_are_gone() -> None:
    first = (*LAYERS[2:], *LAYERS[:2])
    there = sizes_at(first, SHAPE.dense, EVERY_LAYERS[:, [2, 3, 0, 1]])
    assert (there == sizes_at(LAYERS, SHAPE.dense, EVERY_LAYERS)).all()


def test_indices_of_architectures_without_layers_take_the_largest_value_of_what_makes_no_difference() -> None:
    for row, architecture in zip(EVERY_LAYERS, architectures_at(LAYERS, SHAPE.dense, EVERY_LAYERS), strict=True):
        found = indices_of(LAYERS, SHAPE.dense, architecture)
        assert found is not None
        attention, mlp, one, others = row.tolist()
        expected = [attention if one or others else 2, mlp if one or others else 1, one, others]
        assert found.tolist() == expected
    without_one_of_two = Architecture([(0, 0, 0), (2, 2, 8), (2, 2, 8)])
    assert indices_of(LAYERS, SHAPE.dense, without_one_of_two) is None


def test_layers_of_which_the_components_are_gone_need_no_choice_of_the_layer() -> None:
    choices = (Choice("attention", (0,), ((0, 0), (2, 2))), Choice("mlp", (0,), ((0,), (8,))))
    for row in itertools.product(range(2), range(2)):
        (architecture,) = architectures_at(choices, SHAPE.dense, np.array([row]))
        found = indices_of(choices, SHAPE.dense, architecture)
        assert found is not None
        assert tuple(found) == row


@pytest.mark.parametrize("choices", [LAYERS, LAYERS[2:]])
def test_a_fit_reaches_every_maximal_choice_of_layers_and_sizes(choices: tuple[Choice, ...]) -> None:
    """The costs of tied sizes depend on which layers are there, and those of a layer on its sizes."""
    every = np.unique(EVERY_LAYERS[:, -len(choices) :], axis=0)
    budget = Budget.of(SHAPE, {"parameters": 0.75})
    met = {
        tuple(row)
        for row, architecture in zip(every.tolist(), architectures_at(choices, SHAPE.dense, every), strict=True)
        if int(SHAPE.count([architecture])[0]) <= budget.limits["parameters"]
    }
    maximal = {
        row for row in met if not any(tuple(v + (i == c) for i, v in enumerate(row)) in met for c in range(len(row)))
    }
    assert 1 < len(maximal) < len(every)
    fitted = budget.fit(choices, np.repeat(every, 50, axis=0), np.random.default_rng(0))
    assert set(map(tuple, fitted.tolist())) == maximal


def test_a_layer_costs_what_its_dense_components_cost() -> None:
    (costs,) = value_costs([Choice("layer", (0, 2), ((0,), (1,)))], SHAPE, "parameters")
    without = Architecture([(0, 0, 0), (2, 2, 8), (0, 0, 0)])
    assert costs.tolist() == [0, int(SHAPE.count([SHAPE.dense])[0] - SHAPE.count([without])[0])]
    assert cut_rates(Choice("layer", (0, 2), ((0,), (1,))), SHAPE.dense).tolist() == [1, 0]
