"""Baselines without compensation, and search baselines with real evaluations."""

from collections.abc import Mapping
from typing import Any

import pytest
from workplace import SPEC, Workplace

from prunecast.spec.stages import SENSITIVITY_EVALUATIONS

CALIBRATION = {"dataset": "calibration.txt", "samples": 4, "tokens": 32}
COMPENSATED = SPEC["pruner"] | {"compensate": {"method": "least-squares", "calibration": [CALIBRATION]}}
SMALL: Mapping[str, Any] = {
    "predictor": {"use": "gp", "steps": 5},
    "searcher": {"use": "random", "samples": 100},
    "collect": {"pairs": 6},
    "rounds": 1,
    "export": None,
}


def by_name(workplace: Workplace, spec: str) -> dict[str, dict[str, Any]]:
    outcome = workplace.prunecast("run", f"{spec}.yaml", "--json", "--quiet")
    assert outcome.code == 0, outcome.stderr
    return {row["name"]: row for row in outcome.json["baselines"]} | {"best": outcome.json["best"]}


def test_an_uncompensated_baseline_shares_the_settings_of_a_run_without_compensation(
    workplace: Workplace,
) -> None:
    names = ["uniform", "uniform-uncompensated", "uniform-mlp", "uniform-mlp-uncompensated"]
    workplace.write_spec("compensated", {**SMALL, "pruner": COMPENSATED, "baselines": names})
    with_both = by_name(workplace, "compensated")
    for cut in ("uniform", "uniform-mlp"):
        assert with_both[cut]["architecture"] == with_both[f"{cut}-uncompensated"]["architecture"]
        assert with_both[cut]["metrics"] != with_both[f"{cut}-uncompensated"]["metrics"]
    rows = workplace.sql("SELECT count(DISTINCT setting_id) FROM evaluations")
    assert rows == [(4,)]  # two evaluators, with compensation and without

    architectures = {with_both[f"{cut}-uncompensated"]["architecture"] for cut in ("uniform", "uniform-mlp")}
    before = workplace.sql("SELECT count(*) FROM evaluations")[0][0]
    workplace.write_spec("plain", {**SMALL, "baselines": ["uniform", "uniform-mlp"]})
    plain = by_name(workplace, "plain")
    measured = workplace.sql("SELECT count(*) FROM evaluations")[0][0] - before
    assert measured > 0
    for cut in ("uniform", "uniform-mlp"):
        if plain[cut]["architecture"] in architectures:
            assert plain[cut]["metrics"] == with_both[f"{cut}-uncompensated"]["metrics"]


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [
        ("random-search", {}, 6 + 3),
        ("evolution", {}, 6 + 3),
        ("evolution", {"baseline_evaluations": 4}, 4),
        ("random-search", {"neighbours": 1}, 6 + 3 + SENSITIVITY_EVALUATIONS),
    ],
)
def test_a_search_baseline_uses_the_evaluations_of_the_run_or_the_spec(
    workplace: Workplace, name: str, changes: dict[str, int], count: int
) -> None:
    halfway = {"parameters": 0.9}  # uniform MLP pruning to this budget keeps enough for many mutations
    workplace.write_spec("searched", {**SMALL, "budget": halfway, "baselines": [name], **changes})
    planned = {s["stage"]: s for s in workplace.prunecast("run", "searched.yaml", "--dry-run", "--json").json["steps"]}
    assert planned[name]["architectures"] == count
    found = by_name(workplace, "searched")
    taken = workplace.sql(
        "SELECT count(DISTINCT e.architecture_id) FROM run_evaluations u JOIN evaluations e ON e.id = u.evaluation_id "
        "WHERE u.stage = ?",
        name,
    )
    assert taken == [(count,)]
    finest = 4 * 3 * 64 * 16  # a quarter of an MLP is the finest step of this space
    assert 0 <= found["best"]["parameters"] - found[name]["parameters"] < finest
    best = workplace.sql(
        "SELECT min(x.value) FROM run_evaluations u JOIN metric_values x ON x.evaluation_id = u.evaluation_id "
        "JOIN metrics n ON n.id = x.metric_id WHERE u.stage = ? AND n.name = 'validation.validation.ppl'",
        name,
    )
    assert best == [(found[name]["metrics"]["validation.validation.ppl"],)]
