"""Baselines that drop whole layers: which ones go, the budget they meet, and spaces that cannot express them."""

from dataclasses import replace
from typing import Any

import pytest
from workplace import SMOLLM2, SPEC, Workplace

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Choice
from prunecast.architecture.shape import ModelShape
from prunecast.compare.depth import before_last

DENSE = (3, 3, 1536)


def layer(*layers: int) -> Choice:
    return Choice("layer", layers, ((0,), (1,)))


def gone_of(architecture: Architecture) -> list[int]:
    return [index for index, sizes in enumerate(architecture.layers) if not any(sizes)]


@pytest.fixture
def shape() -> ModelShape:
    """The sizes of SmolLM2-135M."""
    return SMOLLM2


@pytest.mark.parametrize(("share", "gone"), [(1.0, 0), (0.9, 4), (0.8, 8), (0.5, 19)])
def test_the_layers_before_the_last_go_until_the_budget_is_met(share: float, gone: int, shape: ModelShape) -> None:
    """A layer is 2.6 % of the parameters."""
    choices = tuple(layer(index) for index in range(30))
    found = before_last(choices, Budget.of(shape, {"parameters": share}))
    assert gone_of(found) == list(range(29 - gone, 29))
    assert set(found.layers) <= {DENSE, (0, 0, 0)}


def test_every_limit_is_met_and_the_last_layer_goes_last(shape: ModelShape) -> None:
    choices = tuple(layer(index) for index in range(1, 30))
    tight = Budget.of(shape, {"parameters": 0.9, "kv_cache_bytes": 0.5})
    assert gone_of(before_last(choices, tight)) == list(range(14, 29))
    impossible = Budget.of(shape, {"kv_cache_bytes": 0.01})
    assert gone_of(before_last(choices, impossible)) == list(range(1, 30))


def test_blocks_go_together_and_other_choices_keep_their_largest_value(shape: ModelShape) -> None:
    choices = (
        Choice("mlp", tuple(range(30)), ((512,), (1024,))),
        layer(1, 2, 3),
        layer(4, 5, 6),
        layer(7, 8),
    )
    dense = Architecture([(3, 3, 1024)] * 30)
    most = int(shape.count([dense])[0]) - 1
    found = before_last(choices, Budget(shape, {"parameters": most}))
    assert gone_of(found) == [7, 8]
    assert set(found.layers) == {(3, 3, 1024), (0, 0, 0)}


RUN: dict[str, Any] = {
    "space": {"use": "depth", "layers": "0:-1"},
    "predictor": {"use": "gp", "steps": 5},
    "searcher": {"use": "random", "samples": 100},
    "collect": {"pairs": 5},
    "rounds": 1,
    "export": None,
}


def test_a_run_compares_whole_layers_with_those_before_the_last_and_those_missed_least(workplace: Workplace) -> None:
    names = ["uniform-mlp", "depth-last", "depth-importance", "evolution"]
    workplace.write_spec("depth", {**RUN, "baselines": names, "baseline_evaluations": 3})
    planned = {s["stage"]: s for s in workplace.prunecast("run", "depth.yaml", "--dry-run", "--json").json["steps"]}
    assert planned["depth-importance"]["architectures"] == 3
    outcome = workplace.prunecast("run", "depth.yaml", "--json", "--quiet")
    assert outcome.code == 0, outcome.stderr
    found = {row["name"]: row for row in (*outcome.json["baselines"], outcome.json["best"])}
    assert [row["name"] for row in outcome.json["baselines"]] == [
        "uniform-mlp",
        "depth-last",
        "evolution",
        "depth-importance",
    ]
    assert found["depth-last"]["architecture"] == "4x2+24*2 0+0 4x2+24"
    query = 'SELECT architecture, "validation.validation.ppl" FROM measurements'
    metrics = dict(workplace.sql(query))
    alone = {
        gone: str(Architecture([(0, 0, 0) if index == gone else (4, 2, 24) for index in range(4)])) for gone in range(3)
    }
    least = min(alone.values(), key=metrics.__getitem__)
    assert found["depth-importance"]["architecture"] == least
    assert found["best"]["architecture"] == least  # one layer has to go, and all three have been measured
    assert {row["parameters"] for row in found.values()} - {found["uniform-mlp"]["parameters"]} == {
        found["best"]["parameters"]
    }


def test_a_space_of_sizes_and_layers_is_searched_with_local_sensitivities_and_refinement(workplace: Workplace) -> None:
    space = {"use": "uniform", "mlp": [0.0, 0.25, 0.5], "attention": [0.0, 0.5], "drop": {}}
    changes = {"space": space, "baselines": ["depth-last", "depth-importance"], "neighbours": 1, "refine": {}}
    workplace.write_spec("both", {**RUN, "collect": {"pairs": 10}, **changes})
    outcome = workplace.prunecast("run", "both.yaml", "--json", "--quiet")
    assert outcome.code == 0, outcome.stderr
    left = [each for each in Architecture.parse(outcome.json["best"]["architecture"]).layers if any(each)]
    assert len(set(left)) == 1
    assert {each["component"] for each in outcome.json["importances"]} == {"attention", "mlp", "layer"}


@pytest.mark.parametrize("name", ["depth-last", "depth-importance"])
def test_a_space_without_whole_layers_is_refused_with_the_line_of_the_baseline(workplace: Workplace, name: str) -> None:
    workplace.write_spec("sizes", {**SPEC, "baselines": ["uniform", name]})
    outcome = workplace.prunecast("spec", "validate", "sizes.yaml")
    assert outcome.code != 0
    place = next(
        n for n, text in enumerate((workplace.folder / "sizes.yaml").read_text().splitlines(), 1) if name in text
    )
    assert f"sizes.yaml:{place}:" in outcome.stderr
    assert f"{name} drops whole layers, which space layerwise has no choices of: use space depth" in outcome.stderr


def test_layers_that_were_removed_before_count_as_nothing(shape: ModelShape) -> None:
    pruned = replace(shape, dense=Architecture([DENSE] * 28 + [(0, 0, 0)] * 2))
    choices = tuple(layer(index) for index in range(1, 28))
    assert gone_of(before_last(choices, Budget.of(pruned, {"parameters": 0.97}))) == [26, 27, 28, 29]
