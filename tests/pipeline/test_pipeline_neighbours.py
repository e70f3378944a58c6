"""Looking around: that estimates add up, that measuring confirms them, and that a run keeps what it found."""

import json
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr
from workplace import Workplace

from prunecast.architecture import Architecture
from prunecast.choices import Choice
from prunecast.pipeline.neighbours import Surroundings, curvature, near

ARGUMENTS = ("run", "tiny.yaml", "--json", "--quiet", "--set", "export=null", "--set", "baselines=[]")
AROUND = (*ARGUMENTS, "--set", "neighbours=1")


CHOICES = (
    Choice("attention", (0,), ((0, 0), (1, 2), (2, 2), (4, 2))),
    Choice("mlp", (0,), ((0,), (6,), (12,), (24,))),
    Choice("mlp", (1, 2), ((6,), (12,), (24,))),
)
CENTRE = Surroundings(
    row=np.array([2, 1, 1]),
    value=np.array([10.0, 20.0]),
    down=np.array([[3.0, 1.0], [5.0, 2.0], [7.0, 0.0]]),
    up=np.array([[-1.0, 0.0], [-2.0, 1.0], [-0.5, 0.0]]),
)


def test_first_order_adds_what_steps_change_one_by_one() -> None:
    rows = np.array([[2, 1, 1], [1, 1, 1], [0, 3, 1], [3, 0, 2]])
    expected = [[10, 20], [13, 21], [10 + 6 - 4, 20 + 2 + 2], [10 - 1 + 5 - 0.5, 22]]
    np.testing.assert_allclose(CENTRE.first_order(rows), expected)


def test_near_is_one_choice_up_to_two_steps_away_within_its_values() -> None:
    rows = near(CHOICES, CENTRE.row)
    steps = rows - CENTRE.row
    assert ((steps != 0).sum(axis=1) == 1).all()
    assert {tuple(step[step != 0]) for step in steps} == {(-2,), (-1,), (1,), (2,)}
    assert ((rows >= 0) & (rows < [4, 4, 3])).all()
    assert len(np.unique(rows, axis=0)) == len(rows) == (2 + 1) + (1 + 2) + (1 + 1)


def test_curvature_is_found_again_where_pairs_have_one() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, [4, 4, 3], size=(30, 3))
    other = replace(CENTRE, row=np.array([3, 2, 0]), value=np.array([9.0, 21.0]))
    bends = np.array([[0.3, 0.0], [0.1, 0.2]])
    squares = (rows - CENTRE.row) ** 2
    targets = CENTRE.first_order(rows) + np.stack([squares[:, 0], squares[:, 1:].sum(axis=1)], axis=1) @ bends
    np.testing.assert_allclose(curvature(CHOICES, [CENTRE], rows, targets, np.ones(2)), bends, atol=1e-12)
    turned = replace(CENTRE, value=-CENTRE.value, down=-CENTRE.down, up=-CENTRE.up)
    np.testing.assert_allclose(curvature(CHOICES, [turned], rows, -targets, -np.ones(2)), -bends, atol=1e-12)
    assert (curvature(CHOICES, [CENTRE, other], rows, targets, np.ones(2)) >= 0).all()
    nothing = curvature(CHOICES, [CENTRE], CENTRE.row[None], CENTRE.value[None], np.ones(2))
    np.testing.assert_array_equal(nothing, np.zeros((2, 2)))


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
