"""Sizes of models as JSON: one form each, that of earlier versions where it can say everything."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from registry_samples import shape

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.errors import RegistryError
from prunecast.registry.records import shape_from_json, shape_to_json

UNIFORM = (
    '{"attention":{"base":64,"head":1024,"head_vectors":0,"unit":1024,"unit_vectors":0},"context":128,'
    '"dense":{"layers":[[4,2,24],[4,2,24],[4,2,24]]},"embeddings":6208,"family":"llama","fixed":6272,"head_dim":8,'
    '"hidden_size":64,"mlp":{"base":64,"head":0,"head_vectors":0,"unit":192,"unit_vectors":0},"vocabulary":97}'
)
"""Sizes as recorded before layers could differ."""

WINDOWED = replace(shape().layers[0], window=16)
MIXED = replace(
    shape(6),
    dense=Architecture([(4, 2, 24), (4, 2, 24), (0, 0, 24), (4, 2, 24), (4, 2, 24), (4, 2, 20)]),
    layers=(
        WINDOWED,
        WINDOWED,
        LayerCost(ComponentCost(0, 0), shape().layers[0].mlp, shared=64),
        *shape().layers,
    ),
)


def test_layers_that_are_alike_are_written_as_before_they_could_differ() -> None:
    assert shape_to_json(shape()) == UNIFORM
    assert shape_from_json(UNIFORM) == shape()
    sizes = replace(shape(), dense=Architecture([(4, 2, 24), (1, 1, 1), (0, 0, 0)]))
    assert json.loads(shape_to_json(sizes)).keys() == json.loads(UNIFORM).keys()


def test_layers_that_differ_are_written_in_runs_of_equal_ones() -> None:
    written = json.loads(shape_to_json(MIXED))
    assert [(run["count"], run.get("window"), run.get("shared")) for run in written["layers"]] == [
        (2, 16, None),
        (1, None, 64),
        (3, None, None),
    ]
    assert {"attention", "mlp", "bos"}.isdisjoint(written)


@pytest.mark.parametrize(
    "sizes",
    [
        MIXED,
        replace(shape(), layers=(WINDOWED,) * 3),
        replace(shape(), layers=(replace(WINDOWED, window=None, shared=1),) * 3),
        replace(shape(), bos=True),
        replace(shape(), family="gemma2", bos=True),
        replace(shape(), family="gemma2"),
        replace(MIXED, family="gemma3_text", bos=True),
    ],
)
def test_all_sizes_survive_json_in_one_form(sizes: ModelShape) -> None:
    assert shape_from_json(shape_to_json(sizes)) == sizes
    assert shape_to_json(shape_from_json(shape_to_json(sizes))) == shape_to_json(sizes)


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3_text"])
def test_families_that_always_needed_the_first_token_need_it_in_older_registries(family: str) -> None:
    older = UNIFORM.replace('"llama"', f'"{family}"')
    assert shape_from_json(older).bos
    assert shape_to_json(shape_from_json(older)) == older
    assert not shape_from_json(UNIFORM).bos


def run(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda sizes: sizes["layers"][0].update(changes)


@pytest.mark.parametrize(
    "damage",
    [
        run(count=3),
        run(count=0),
        run(count=-1),
        run(count=2.0),
        run(count=True),
        run(count=10**12),
        run(window=0),
        run(window=-4),
        run(window=1.5),
        run(window="all"),
        run(window=2**60),
        run(shared=-1),
        run(shared=2**48),
        run(shared=None),
        run(attention={"base": -1, "unit": 1}),
        run(mlp={"base": 1}),
        run(mlp=7),
        run(surprise=1),
        lambda sizes: sizes["layers"][0].pop("count"),
        lambda sizes: sizes["layers"].pop(),
        lambda sizes: sizes.update(layers=[]),
        lambda sizes: sizes.update(layers=7),
        lambda sizes: sizes.update(layers=["all"]),
        lambda sizes: sizes.update(layers={"count": 6}),
        lambda sizes: sizes.update(attention={"base": 1, "unit": 1}),
        lambda sizes: sizes.update(bos=1),
        lambda sizes: sizes.update(bos=None),
        lambda sizes: sizes.update(family=["gemma"]),
        lambda sizes: sizes.update(context=True),
        lambda sizes: sizes.update(vocabulary=2**47, hidden_size=2**47),
    ],
)
def test_damaged_sizes_are_one_line(damage: Callable[[dict[str, Any]], object]) -> None:
    sizes = json.loads(shape_to_json(MIXED))
    damage(sizes)
    with pytest.raises(RegistryError, match=r"is not the sizes of a model .*; the registry is damaged") as refused:
        shape_from_json(json.dumps(sizes))
    assert "\n" not in str(refused.value)
