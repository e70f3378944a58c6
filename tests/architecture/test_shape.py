"""Costs of models whose layers differ, counted by hand."""

from dataclasses import replace

import pytest

from prunecast.architecture.architecture import Architecture, sizes_of
from prunecast.architecture.choices import Choice, cut_rates, value_costs
from prunecast.architecture.encodings import kept_fractions, structured
from prunecast.architecture.shape import QUANTITIES, ComponentCost, LayerCost, ModelShape

MLP = ComponentCost(base=3, unit=20, unit_vectors=2)
SHAPE = ModelShape(
    family="gemma2",
    dense=Architecture([(2, 2, 8), (1, 2, 6), (0, 0, 4)]),
    hidden_size=10,
    head_dim=4,
    vocabulary=50,
    context=30,
    embeddings=500,
    fixed=510,
    layers=(
        LayerCost(ComponentCost(base=7, unit=100, head=80, unit_vectors=8), MLP, shared=1000, window=7),
        LayerCost(ComponentCost(base=5, unit=90, head=70), replace(MLP, unit=30), shared=2000),
        LayerCost(ComponentCost(base=0, unit=0), MLP, window=12),
    ),
)
ALL, LESS, NONE = SHAPE.dense, Architecture([(1, 1, 0), (0, 0, 5), (0, 0, 0)]), Architecture([(0, 0, 0)] * 3)


def test_parameters_are_those_of_each_layer_and_shared_ones_count_while_a_component_is_there() -> None:
    dense = (7 + 2 * 100 + 4 * 80) + (3 + 8 * 20) + 1000 + (5 + 90 + 2 * 70) + (3 + 6 * 30) + 2000 + (3 + 4 * 20)
    less = (7 + 100 + 80) + 1000 + (3 + 5 * 30) + 2000
    assert SHAPE.count([ALL, LESS, NONE]).tolist() == [510 + dense, 510 + less, 510]
    assert SHAPE.count([ALL, LESS, NONE], "parameters_without_embeddings").tolist() == [10 + dense, 10 + less, 10]


def test_macs_count_the_scores_of_a_window_instead_of_the_context() -> None:
    scores = 2 * 4 * 7 * 4 + 2 * 4 * 30 * 2
    dense = 50 * 10 + (2 * 92 + 4 * 80) + 8 * 18 + (90 + 2 * 70) + 6 * 28 + 4 * 18 + scores
    less = 50 * 10 + (92 + 80) + 2 * 4 * 7 + 5 * 28
    assert SHAPE.count([ALL, LESS, NONE], "macs").tolist() == [dense, less, 500]


def test_a_cache_is_the_mean_over_the_tokens_of_a_full_one_rounded_up() -> None:
    whole = 2 * 4 * 2 * (7 * 2 + 30 * 1)  # bytes of keys and values of 7 tokens in two groups, and of 30 in one
    assert whole == 704
    assert SHAPE.count([ALL, LESS, NONE], "kv_cache_bytes").tolist() == [24, 4, 0]  # 704 and 112 over 30 tokens
    assert SHAPE.totals(sizes_of([ALL, LESS, NONE]), "kv_cache_bytes").tolist() == [704, 112, 0]


def test_a_cache_that_forgets_nothing_is_counted_whole() -> None:
    neo = replace(SHAPE, family="gpt_neo")
    assert neo.count([ALL, LESS, NONE], "kv_cache_bytes").tolist() == [2 * 4 * 2 * 3, 2 * 4 * 2 * 1, 0]
    assert neo.tokens("kv_cache_bytes") == 1
    assert neo.count([ALL], "macs") == SHAPE.count([ALL], "macs")


def test_a_shorter_context_is_shorter_than_the_windows_too() -> None:
    short = SHAPE.at(5)
    assert short.count([ALL], "kv_cache_bytes").tolist() == [2 * 4 * 2 * 3]
    assert (SHAPE.count([ALL], "macs") - short.count([ALL], "macs")).tolist() == [2 * 4 * (2 * 4 + 25 * 2)]
    assert SHAPE.at(None) is SHAPE
    assert short.count([ALL]).tolist() == SHAPE.count([ALL]).tolist()


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_costs_of_values_are_differences_of_counts(quantity: str) -> None:
    """Of layers whose other component stays, as shared costs are not in them."""
    choices = (Choice("attention", (0, 1), ((0, 0), (1, 1), (1, 2))), Choice("mlp", (1, 2), ((0,), (3,), (4,))))
    for choice, costs in zip(choices, value_costs(choices, SHAPE, quantity), strict=True):  # type: ignore[arg-type]
        sizes = sizes_of([Architecture([(1, 1, 2)] * 3)] * 3)
        for layer in choice.layers:
            sizes[:, layer, slice(0, 2) if choice.component == "attention" else slice(2, 3)] = choice.values
        totals = SHAPE.totals(sizes, quantity)  # type: ignore[arg-type]
        assert (totals - totals[0]).tolist() == (costs - costs[0]).tolist()
        assert costs[0] == 0


def test_costs_of_another_number_of_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="costs of 2 layers for a model of 3"):
        replace(SHAPE, layers=SHAPE.layers[:2])
    with pytest.raises(ValueError, match="architectures of 1 layers of a model of 3"):
        SHAPE.count([Architecture([(1, 1, 1)])])


def test_of_what_the_dense_model_does_not_have_nothing_is_removed() -> None:
    assert kept_fractions([ALL, LESS], SHAPE).tolist() == [[1] * 6, [0.25, 0, 0, 5 / 6, 1, 0]]
    assert structured([ALL], SHAPE)[0].tolist() == [1, 1, 1, 1, 1, 1, 0] * 2 + [1, 1, 1, 1, 0, 1, 0] + [1, 0] * 3
    assert cut_rates(Choice("attention", (2,), ((0, 0),)), ALL).tolist() == [0]
