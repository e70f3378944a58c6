"""The depth space, and models without some of their layers compared with stock models that have fewer."""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sliced_models import IDS, elastic_of, random_importance
from transformers import AutoModelForCausalLM

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import architectures_at, indices_of
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ModelError
from prunecast.testing.models import shape_of
from prunecast_plugins.spaces.depth import Depth, DepthOptions


def space_of(shape: ModelShape, **options: object) -> Depth:
    return Depth(DepthOptions.model_validate(options), shape)


def test_all_layers_but_the_first_and_the_last_may_go_and_blocks_go_together(shape: ModelShape) -> None:
    assert [choice.layers for choice in space_of(shape).choices] == [(layer,) for layer in range(1, 11)]
    blocks = space_of(shape, layers="2:-1", block=4).choices
    assert [choice.layers for choice in blocks] == [(2, 3, 4, 5), (6, 7, 8, 9), (10,)]
    assert {choice.values for choice in blocks} == {((0,), (1,))}


def test_indices_and_architectures_are_inverse_over_the_whole_space(shape: ModelShape) -> None:
    choices = space_of(shape, layers=":8", block=2).choices
    every = np.array(list(itertools.product(range(2), repeat=4)), dtype=np.int64)
    for row, architecture in zip(every, architectures_at(choices, shape.dense, every), strict=True):
        layers = [shape.dense.layers[0] if there else (0, 0, 0) for there in row for _ in range(2)]
        assert architecture == Architecture([*layers, *shape.dense.layers[8:]])
        found = indices_of(choices, shape.dense, architecture)
        assert found is not None
        assert found.tolist() == row.tolist()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"layers": ":"}, "space.layers ':' lets all 12 layers go: leave one out, e.g. '1:-1'"),
        ({"layers": "3:28"}, "space.layers '3:28' exceeds the model's 12 layers"),
        ({"layers": "5:5"}, "space.layers '5:5' selects none of the model's 12 layers"),
    ],
)
def test_ranges_that_leave_no_layer_or_select_none_are_refused(
    options: dict[str, object], problem: str, shape: ModelShape
) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(problem)}$"):
        _ = space_of(shape, **options).choices


def test_layers_that_have_been_removed_before_are_no_choices_and_do_not_count_as_left(shape: ModelShape) -> None:
    pruned = replace(shape, dense=Architecture([(0, 0, 0), *shape.dense.layers[1:-2], (0, 0, 4), (0, 0, 0)]))
    assert [choice.layers for choice in space_of(pruned, layers="8:").choices] == [(8,), (9,), (10,)]
    with pytest.raises(ModelError, match="lets all 10 layers go"):
        _ = space_of(pruned).choices
    with pytest.raises(ModelError, match=r"'11:' selects only layers that have been removed before"):
        _ = space_of(pruned, layers="11:").choices


def test_every_second_sample_loses_neighbouring_layers_and_samples_repeat_from_a_seed(shape: ModelShape) -> None:
    space = space_of(shape)
    sample = space.sample(400, np.random.default_rng(3))
    assert (sample == space.sample(400, np.random.default_rng(3))).all()
    assert set(sample.sum(axis=1)) == set(range(11))
    ends = np.abs(np.diff(np.pad(sample, ((0, 0), (1, 1)), constant_values=1), axis=1)).sum(axis=1)
    assert ends[1::2].max() == 2
    assert ends[::2].max() > 4


@pytest.mark.parametrize("quantity", ["parameters", "macs", "kv_cache_bytes"])
def test_a_budget_is_met_by_as_many_layers_as_it_allows(quantity: Any, shape: ModelShape) -> None:
    space, budget = space_of(shape), Budget.of(shape, {quantity: 0.7})
    rng = np.random.default_rng(0)
    fitted = budget.fit(space.choices, space.sample(50, rng), rng)
    (lost,) = {int((row == 0).sum()) for row in fitted}
    dense = shape.dense.layers[0]
    fewest = next(n for n in range(11) if budget.met_by(Architecture([(0, 0, 0)] * n + [dense] * (12 - n))))
    assert lost == fewest


@pytest.mark.parametrize(
    ("family", "attributes"),
    [
        ("llama", {}),
        ("gemma2", {"sliding_window": 4}),
        ("gpt_neox", {"use_parallel_residual": True}),
        ("gpt_neox", {"use_parallel_residual": False}),
        ("olmo2", {}),
    ],
)
@pytest.mark.parametrize("gone", [[1], [4], [1, 2], [2, 3], [1, 2, 3, 4]])
def test_a_model_without_layers_is_the_stock_model_of_fewer_layers(
    family: str, attributes: dict[str, object], gone: list[int], tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(family, num_hidden_layers=6, **attributes).double()
    shape = shape_of(model.config)
    space = space_of(shape)
    row = np.array([[layer not in gone for layer in range(1, 5)]], dtype=np.int64)
    (architecture,) = architectures_at(space.choices, shape.dense, row)
    elastic = elastic_of(model, random_importance(shape, seed=1))
    elastic.apply(architecture)
    stock = without_layers(model, gone)
    with torch.inference_mode():
        torch.testing.assert_close(elastic.model(IDS).logits, stock(IDS).logits, rtol=1e-6, atol=1e-6)
        assert not torch.allclose(elastic.model(IDS).logits, model(IDS).logits, rtol=1e-2, atol=1e-2)
    assert int(shape.count([architecture])[0]) == stock.num_parameters()


def without_layers(model: Any, gone: list[int]) -> Any:
    """A stock model of fewer layers, from a config with fewer and weights under other numbers."""
    config = type(model.config).from_dict(model.config.to_dict())
    left = [layer for layer in range(config.num_hidden_layers) if layer not in gone]
    config.num_hidden_layers = len(left)
    if getattr(config, "layer_types", None):
        config.layer_types = [model.config.layer_types[layer] for layer in left]
    state = {}
    for name, tensor in model.state_dict().items():
        match = re.fullmatch(r"(.*\.layers\.)(\d+)(\..*)", name)
        if match is None:
            state[name] = tensor
        elif int(match[2]) in left:
            state[f"{match[1]}{left.index(int(match[2]))}{match[3]}"] = tensor
    stock = AutoModelForCausalLM.from_config(config).double().eval()
    stock.load_state_dict(state, strict=True)
    return stock
