"""Reuse of pairs from other runs, from a file of architectures and from another model, and prediction."""

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest
from workplace import SPEC, Outcome, Workplace

from prunecast.architecture.architecture import Architecture
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry import ModelRecord, PluginRecord, Registry, Setting
from prunecast.registry.records import shape_from_json

VALIDATION = "validation.validation.ppl"
SHORT = {"rounds": 1, "per_round": 2, "verify": {"top": 1}, "baselines": [], "export": None}


def run(workplace: Workplace, name: str, *arguments: str) -> dict[str, Any]:
    outcome = workplace.prunecast("run", f"{name}.yaml", "--json", *arguments)
    assert outcome.code == 0, outcome.stderr
    return dict(outcome.json)


def stages(workplace: Workplace, run_id: int) -> dict[str, tuple[int, int]]:
    """Number of evaluations of each stage of a run, in total and measured by this run."""
    rows = workplace.sql(
        "SELECT stage, count(*), sum(NOT cached) FROM run_evaluations WHERE run_id = ? GROUP BY stage", run_id
    )
    return {stage: (used, measured) for stage, used, measured in rows}


def test_a_run_reuses_all_pairs_of_other_runs_and_measures_only_missing_ones(
    finished: tuple[Workplace, Outcome], continued: Workplace
) -> None:
    (known,) = continued.sql("SELECT count(DISTINCT architecture_id) FROM evaluations WHERE setting_id = 1")[0]
    continued.write_spec("more", {**SHORT, "seed": 7, "collect": {"pairs": known + 3, "reuse": True}})
    (pairs,) = [
        s for s in continued.prunecast("run", "more.yaml", "--dry-run", "--json").json["steps"] if s["stage"] == "pairs"
    ]
    assert (pairs["architectures"], pairs["cached"]) == (known + 3, known)
    result = run(continued, "more")
    assert stages(continued, result["run"])["pairs"] == (known + 3, 3)
    assert result["predictor"]["pairs"] == known + 3 + 2
    again = run(continued, "more")
    assert again["evaluations"]["measured"] == 0
    assert (again["best"], again["rounds"]) == (result["best"], result["rounds"])

    continued.write_spec("enough", {**SHORT, "seed": 8, "collect": {"pairs": 4, "reuse": True}})
    enough = run(continued, "enough")
    used, measured = stages(continued, enough["run"])["pairs"]
    assert used >= known + 3
    assert measured == 0


def test_pairs_under_another_pruner_or_evaluator_are_not_reused(continued: Workplace) -> None:
    pruner = {**SPEC["pruner"], "order": 2}
    continued.write_spec("other", {**SHORT, "pruner": pruner, "collect": {"pairs": 4, "reuse": True}})
    assert stages(continued, run(continued, "other")["run"])["pairs"] == (4, 4)


def test_architectures_of_a_file_are_measured_first_and_count_as_pairs(workplace: Workplace) -> None:
    lines = ["4x2+24 4x1+12 2x2+24 4x2+6", "4x2+24*3 0+24"]
    (workplace.folder / "theirs.txt").write_text("# of another tool\n" + "\n".join(lines) + "\n")
    workplace.write_spec("given", {**SHORT, "collect": {"pairs": 5, "architectures": "theirs.txt"}})
    result = run(workplace, "given")
    assert stages(workplace, result["run"])["pairs"] == (5, 5)
    measured = {row["architecture"] for row in json.loads(workplace.prunecast("registry", "query", "--json").stdout)}
    assert {str(Architecture.parse(line)) for line in lines} <= measured
    (workplace.folder / "theirs.txt").write_text("4x2+24*3\n")
    outcome = workplace.prunecast("run", "given.yaml", "--json")
    assert (outcome.code, outcome.stderr.count("\n")) == (1, 1)
    assert "theirs.txt:1: 3 layers, the model has 4" in outcome.stderr


@pytest.fixture
def with_other_model(continued: Workplace) -> Workplace:
    """Workplace of a finished run, with a second model ``other/`` of different weights and fingerprint."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(continued.folder / "model", continued.folder / "other")
    weights = load_file(continued.folder / "other" / "model.safetensors")
    changed = {name: weight + 0.01 * torch.ones_like(weight) for name, weight in weights.items()}
    save_file(changed, continued.folder / "other" / "model.safetensors", metadata={"format": "pt"})
    return continued


@pytest.mark.slow
def test_a_run_reports_the_benefit_of_a_warm_start(with_other_model: Workplace) -> None:
    model = {"source": "other", "dtype": "float32", "device": "cpu"}
    with_other_model.write_spec(
        "warm", {**SHORT, "model": model, "collect": {"pairs": 22}, "warm_start": {"models": ["model"]}}
    )
    warm = run(with_other_model, "warm")["warm_start"]
    (pairs,) = with_other_model.sql("SELECT count(*) FROM metric_values WHERE setting_id = 1 AND metric_id = 1")[0]
    assert warm["sources"] == {"model": pairs - 1}
    points = warm["kendall_tau"]
    assert [point["own_pairs"] for point in points] == [0, 10]
    assert points[0]["cold"] is None
    assert points[0]["warm"] > max(warm["size"], 0.3)  # nearly the same model

    with_other_model.write_spec("cold", {**SHORT, "model": model, "warm_start": {"models": ["absent"]}})
    outcome = with_other_model.prunecast("run", "cold.yaml", "--json")
    assert (outcome.code, outcome.stderr.count("\n")) == (1, 1)
    assert "no model is called 'absent'; it holds: model" in outcome.stderr

    told = with_other_model.prunecast("registry", "transfer", "model", "other", "--metric", VALIDATION, "--json")
    assert [row["own pairs"] for row in told.json] == [0, 10]
    assert told.json[0]["without"] is None
    assert "from model, taylor calibration.dataset=calibration.txt" in told.stderr


def test_the_expansion_remainder_ignores_pairs_of_other_models(with_other_model: Workplace) -> None:
    model = {"source": "other", "dtype": "float32"}
    around = {**SHORT, "model": model, "neighbours": 1, "rounds": 1}
    with_other_model.write_spec("cold", around)
    with_other_model.write_spec("warm", {**around, "warm_start": {"models": ["model"]}})
    cold, warm = (run(with_other_model, name)["rounds"] for name in ("cold", "warm"))
    assert cold == warm


def test_a_spec_is_predicted_from_pairs_with_the_same_token_in_front(continued: Workplace) -> None:
    told = {}
    for bos in ("auto", "never", "always"):
        continued.write_spec(bos, {"evaluators": [SPEC["evaluators"][0] | {"bos": bos}]})
        told[bos] = continued.prunecast("predict", f"{bos}.yaml", "--json")
    assert told["auto"].code == 0, told["auto"].stderr
    assert told["never"].stdout == told["auto"].stdout
    assert (told["always"].code, told["always"].stdout) == (1, "")
    assert "too few pairs of model" in told["always"].stderr


def test_an_architecture_and_a_spec_are_predicted_from_the_registry_alone(continued: Workplace) -> None:
    row = json.loads(continued.prunecast("registry", "best", VALIDATION, "--limit", "1", "--json").stdout)[0]
    told = continued.prunecast("predict", row["key"][:10], "--metric", VALIDATION, "--json")
    (predicted,) = told.json
    assert predicted["measured"] == row[VALIDATION]
    assert predicted["low"] < predicted["predicted"] < predicted["high"]
    assert abs(predicted["predicted"] - row[VALIDATION]) < 3 * predicted["std"]
    assert f"learned from {predicted['pairs']} pairs of model, taylor" in told.stderr
    assert "perplexity" in told.stderr

    rows = continued.prunecast("predict", "tiny.yaml", "--json").json
    assert [each["name"] for each in rows] == ["uniform", "uniform-mlp", *["found"] * 5]
    limit = (
        0.8 * json.loads(continued.prunecast("registry", "query", "--sort", "-kept", "--json").stdout)[0]["parameters"]
    )
    assert all(each["parameters"] <= limit for each in rows)
    values = [each["predicted"] for each in rows[2:]]
    assert values == sorted(values)


def test_baselines_are_predicted_at_the_size_of_the_best_under_a_cache_budget(continued: Workplace) -> None:
    searcher = {"use": "random", "samples": 50}
    continued.write_spec("cached", {"budget": {"kv_cache_bytes": 0.5}, "searcher": searcher, "baselines": ["uniform"]})
    uniform, best, *_ = continued.prunecast("predict", "cached.yaml", "--json").json
    assert uniform["name"] == "uniform"
    assert 0 <= best["parameters"] - uniform["parameters"] < 4 * 3 * 64  # one channel of every layer


def test_predictions_for_a_pruner_cover_only_its_measured_metrics(continued: Workplace) -> None:
    ((key, shape),) = continued.sql("SELECT key, shape_json FROM models")
    model, other = ModelRecord(key, "model", shape_from_json(shape)), PluginRecord("other", 1, {}, None, "acme")
    with Registry.open(continued.registry) as registry:
        measured = [Measurement(Metric("elsewhere", "minimize", "s", "linear"), 1.0, None, 1)]
        dense = model.shape.dense
        registry.record(1, "pairs", Setting(model, other, other, "float32"), dense, measured, 1.0, "cpu")
    told = continued.prunecast("predict", "4x2+24*4", "--pruner", "taylor", "--json")
    assert (told.code, {row["metric"] for row in told.json}) == (0, {VALIDATION})


CUTS = ["uniform", "uniform-mlp", "uniform-uncompensated", "uniform-mlp-uncompensated"]
LEAST_SQUARES = {"method": "least-squares", "calibration": [{"dataset": "calibration.txt", "samples": 4, "tokens": 32}]}


@pytest.mark.parametrize(("compensate", "predicted"), [("none", CUTS), (LEAST_SQUARES, CUTS[:2])])
def test_baselines_with_the_compensation_of_the_pairs_are_predicted(
    workplace: Workplace, compensate: object, predicted: list[str]
) -> None:
    changes = {**SHORT, "pruner": {**SPEC["pruner"], "compensate": compensate}}
    workplace.write_spec("measured", changes)
    run(workplace, "measured", "--quiet")
    workplace.write_spec("asked", {**changes, "baselines": [*CUTS, "random-search", "evolution"]})
    told = workplace.prunecast("predict", "asked.yaml", "--json")
    *cuts, _, _, _, _, _ = told.json
    assert [row["name"] for row in cuts] == predicted
    for row in cuts:
        layers = Architecture.parse(row["architecture"]).layers
        assert all(layer.query_heads == 8 for layer in layers) == ("mlp" in row["name"])
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("left out")]
    assert line.startswith(f"left out: {', '.join([*CUTS[len(predicted) :], 'random-search', 'evolution'])}; ")


def test_prediction_needs_neither_the_model_nor_torch(continued: Workplace) -> None:
    (continued.folder / "model").unlink()
    code = "import sys; from prunecast.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    for target in ("4x2+24 4x1+12*3", "tiny.yaml"):
        done = subprocess.run(
            [sys.executable, "-c", code, "predict", target, "--nl"],
            cwd=continued.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        *rows, imported = done.stdout.splitlines()
        assert (done.returncode, imported) == (0, "False"), done.stderr
        assert json.loads(rows[0])["std"] > 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("predict", "4x2+24*3"), "no model has 3 layers; it holds: model ("),
        (("predict", "4x2+25*4"), "layer 0 keeps 4x2+25, more than the model's 4x2+24"),
        (("predict", "nothing"), "is not a layer"),
        (("predict", "4x2+24*4", "--metric", "test.test.ppl"), "too few to learn from"),
        (("predict", "4x2+24*4", "--predictor", "oracle"), "oracle"),
        (("predict", "4x2+24*4", "--pruner", "oracle"), "has no metric with 10 pairs of pruner oracle; measure some"),
        # Options at their defaults count too if they are given: the spec's predictor or seed may be another.
        (("predict", "tiny.yaml", "--predictor", "gbdt"), "predict: leave out --predictor: the spec decides that"),
        (("predict", "tiny.yaml", "--seed", "0", "--model", "model"), "leave out --model and --seed: "),
        (("predict", "quickstart", "--metric", VALIDATION, "--pruner", "flap"), "leave out --metric and --pruner: "),
    ],
)
def test_prediction_errors_are_one_line(continued: Workplace, arguments: tuple[str, ...], part: str) -> None:
    outcome = continued.prunecast(*arguments)
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1), outcome.stderr
    assert part in outcome.stderr


def test_a_spec_without_pairs_cannot_be_predicted(continued: Workplace) -> None:
    continued.write_spec("other", {"pruner": {**SPEC["pruner"], "order": 2}})
    outcome = continued.prunecast("predict", "other.yaml")
    assert (outcome.code, outcome.stderr.count("\n")) == (1, 1)
    assert "has too few pairs of model under taylor" in outcome.stderr
