"""Looking around: which neighbours there are, that their estimates are right, and that a run keeps what it found."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from workplace import Workplace

from prunecast.architecture import Architecture
from prunecast.models.families import shape_of
from prunecast.pipeline.neighbours import neighbours
from prunecast.plugins import PluginHost

ARGUMENTS = ("run", "tiny.yaml", "--json", "--quiet", "--set", "export=null", "--set", "baselines=[]")
AROUND = (*ARGUMENTS, "--set", "neighbours=1")


def a_space(tiny_model: Callable[..., Any], **options: Any) -> Any:
    space_class: Any = PluginHost.discover().find("space", "layerwise").load()
    made = space_class.options_model(attention=[0.0, 0.5, 1.0], mlp=[0.0, 0.5, 1.0], **options)
    return space_class(made, shape_of(tiny_model("llama").config))


@pytest.fixture
def space(tiny_model: Callable[..., Any]) -> Any:
    return a_space(tiny_model, layers="1:3")


def test_neighbours_take_one_choice_one_step_and_stay_in_its_values(space: Any) -> None:
    whole, cut = (4, 2, 24), (4, 2, 12)
    around = neighbours(space, space.shape.dense)
    assert len(around) == len(space.choices) == 4
    assert {Architecture([whole, cut, whole]), Architecture([whole, whole, cut])} < set(around)
    centre = Architecture([whole, cut, cut])
    around = neighbours(space, centre)
    assert len(set(around) - {centre}) == len(around) == 2 + 2 * 2  # attention is whole, the MLPs go both ways
    for each in around:
        assert each.layers[0] == whole
        assert sum(one != other for one, other in zip(each.layers, centre.layers, strict=True)) == 1


def test_choices_that_tie_layers_step_in_all_of_them(tiny_model: Callable[..., Any]) -> None:
    tied = a_space(tiny_model, tie=2)
    dense = tied.shape.dense.layers
    around = neighbours(tied, tied.shape.dense)
    changed = [tuple(i for i, kept in enumerate(each.layers) if kept != dense[i]) for each in around]
    assert sorted(changed) == [(0, 1), (0, 1), (2,), (2,)]


def test_what_the_space_cannot_express_has_no_neighbours(space: Any) -> None:
    assert neighbours(space, Architecture([(4, 2, 24), (4, 2, 11), (4, 2, 12)])) == []
    assert neighbours(space, Architecture([(4, 2, 23), (4, 2, 12), (4, 2, 12)])) == []


def test_a_run_that_looks_around_finds_the_same_again_without_measuring(workplace: Workplace) -> None:
    first = workplace.prunecast(*AROUND).json
    query = "SELECT architecture_id, changes_json, measured_utc FROM slopes ORDER BY architecture_id"
    found = workplace.sql(query)
    assert len(found) == 2  # one a round
    again = workplace.prunecast(*AROUND).json
    assert again["evaluations"]["measured"] == 0
    assert again["rounds"] == first["rounds"]
    assert workplace.sql(query) == found
    assert workplace.prunecast(*ARGUMENTS).json["rounds"] != first["rounds"]
    assert workplace.prunecast("registry", "verify").code == 0


def test_estimates_rank_neighbours_as_measuring_them_does(workplace: Workplace) -> None:
    fine = (
        "--set",
        "budget.parameters=0.95",
        "--set",
        "space.attention=[0.0]",
        "--set",
        f"space.mlp={[i / 24 for i in range(20)]}",
    )
    workplace.prunecast(*AROUND, *fine, "--set", "rounds=1")
    ((changes, centre),) = workplace.sql(
        "SELECT s.changes_json, v.architecture FROM slopes s JOIN measurements v USING (architecture_id)"
    )
    layers = Architecture.parse(centre).layers
    around = [
        (Architecture([*layers[:layer], kept, *layers[layer + 1 :]]), change)
        for layer, *kept, change in json.loads(changes)
    ]
    (workplace.folder / "around.txt").write_text("\n".join(str(architecture) for architecture, _ in around))
    measured = workplace.prunecast(
        *ARGUMENTS, *fine, "--set", "collect.architectures=around.txt", "--set", f"collect.pairs={len(around)}"
    ).json
    assert measured["predictor"]["pairs"] >= len(around)
    values = {
        Architecture.parse(text): value
        for text, value in workplace.sql('SELECT architecture, "validation.validation.ppl" FROM measurements')
    }
    real = np.log([values[architecture] for architecture, _ in around]) - np.log(values[Architecture.parse(centre)])
    estimated = np.array([change for _, change in around])
    assert spearmanr(real, estimated).statistic > 0.9
    assert np.abs(estimated - real).max() < np.abs(real).max() / 2


def test_evaluators_without_losses_are_refused_in_one_line(workplace: Workplace) -> None:
    speed = "{use: latency, prompt: 16, generate: 2}"
    text = "{use: perplexity, dataset: validation.txt, tokens: 256, context: 64}"
    done = workplace.prunecast(*AROUND, "--set", f"evaluators=[{speed}, {text}]")
    assert done.code == 1
    assert done.stderr.count("\n") == 1
    assert "neighbours: evaluator 'latency' of prunecast" in done.stderr
    assert "leave neighbours out" in done.stderr
