"""The table of measured components: which sizes are timed, in which models, and what follows from their times."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import Choice
from prunecast.architecture.speed import SPEEDS, Times
from prunecast.measure.component_times import (
    WIDTHS,
    TimedModels,
    TimedSizes,
    Workload,
    component_times,
    models_to_time,
    sizes_to_time,
    usual,
)
from prunecast.models.families.sizes import shape_of
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost

FAMILIES = families_of(PluginHost.discover())
CPU = Workload(2, 32, torch.float32, torch.device("cpu"))
SIZES: dict[str, object] = {
    **{"vocab_size": 97, "hidden_size": 64, "intermediate_size": 24, "num_hidden_layers": 3, "head_dim": 8},
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 128, "pad_token_id": 0},
}
CHOICES = (
    Choice("attention", (0, 1), ((0, 0), (2, 1), (4, 2))),
    Choice("mlp", (1,), tuple((width,) for width in range(0, 25, 2))),
)


def models_of(family: str = "llama", **changes: object) -> tuple[TimedModels, Any]:
    config: Any = AutoConfig.for_model(family, **SIZES | changes)
    description = FAMILIES.of(config)
    return TimedModels(config, description, FAMILIES), shape_of(config, description)


def test_the_sizes_of_choices_and_of_the_dense_model_are_timed() -> None:
    _, shape = models_of()
    (sizes,) = sizes_to_time(shape, CHOICES)
    assert sizes.attention == ((2, 1), (4, 2))
    assert len(sizes.widths) == 1 + WIDTHS
    assert {0, 2, 24} <= set(sizes.widths) <= set(range(0, 25, 2))


def test_layers_with_a_window_are_timed_apart() -> None:
    _, shape = models_of("qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=1)
    assert shape.kinds == (0, 1, 1)
    first, second = sizes_to_time(shape, [Choice("attention", (1, 2), ((1, 1), (4, 2)))])
    assert first == TimedSizes(((4, 2),), (0, 24))
    assert second == TimedSizes(((1, 1), (4, 2)), (0, 24))
    assert Architecture([(4, 2, 24), (1, 1, 24), (1, 1, 24)]) in models_to_time(shape, [first, second])


def test_a_width_between_two_measured_ones_is_a_part_of_each() -> None:
    sizes = TimedSizes(((2, 1), (4, 2)), (0, 8, 24))
    layers = Architecture([(4, 2, 12), (2, 1, 0), (0, 0, 24)]).layers
    assert np.array([sizes.parts_of(layer) for layer in layers]).tolist() == [
        [0, 1, 0.75, 0.25],
        [1, 0, 0, 0],
        [0, 0, 0, 1],
    ]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_timed_models_are_those_of_exports_in_one_memory(family: str) -> None:
    models, shape = models_of(family)
    architectures = [shape.dense, Architecture([(2, 1, 6), (0, 0, 24), (0, 0, 0)]), Architecture([(0, 0, 0)] * 3)]
    built = models.built(architectures, CPU)
    assert [model.num_parameters() for model in built.values()] == shape.count(architectures).tolist()
    assert len({next(model.parameters()).data_ptr() for model in built.values()}) == 1
    assert all(type(model).__name__.startswith("Pruned") for model in built.values())
    ids = torch.arange(64).view(2, -1)
    assert all(model(ids).logits.isfinite().all() for model in built.values())


def test_the_usual_time_is_that_of_neither_a_lucky_nor_a_disturbed_round() -> None:
    assert usual([Times(50, 7), Times(10, 9), Times(20, 8)]) == Times(20, 8)
    assert usual([Times(1, 10), Times(4, 20)]) == Times(2, 15)


def test_a_table_predicts_that_what_is_gone_takes_no_time() -> None:
    models, shape = models_of(hidden_size=256, intermediate_size=2048, num_hidden_layers=3)
    choices = [Choice("mlp", (0, 1, 2), ((0,), (2048,)))]
    table = component_times(models, shape, choices, CPU, rounds=3)
    timed, nothing = shape.with_speeds(table), Architecture([(0, 0, 0)] * 3)
    for speed in SPEEDS:
        dense, without_mlp, empty = timed.count([shape.dense, Architecture([(4, 2, 0)] * 3), nothing], speed).tolist()
        assert dense > without_mlp > empty == table.fixed[SPEEDS.index(speed)]
        assert empty > 0
    assert (table.batch, table.context) == (2, 32)
