"""Whole runs of a tiny model, from the spec to the exported folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from workplace import EVALUATIONS, SPEC, Outcome, Workplace

VALIDATION, TEST = "validation.validation.ppl", "test.test.ppl"
CALIBRATION = {"dataset": "calibration.txt", "samples": 4, "tokens": 32}
UNEXPORTED = ("--set", "export=null")
Finished = tuple[Workplace, Outcome]


def run(workplace: Workplace, *arguments: str, spec: str = "tiny.yaml") -> dict[str, Any]:
    outcome = workplace.prunecast("run", spec, "--json", *arguments)
    assert outcome.code == 0, outcome.stderr
    return outcome.json


def candidates(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [result["dense"], *result["baselines"], *result["verified"]]


# ---------------------------------------------------------------------------------------------- the JSON result


def test_json_result_has_the_promised_keys_and_types(finished: Finished) -> None:
    result = finished[1].json
    promised = {"run", "model", "budget", "dense", "baselines", "best", "predictor", "evaluations", "seconds", "export"}
    assert promised <= set(result)
    assert result["run"] == 1
    assert [baseline["name"] for baseline in result["baselines"]] == ["uniform", "uniform-mlp"]
    for candidate in candidates(result):
        assert {"architecture", "parameters", "metrics"} <= set(candidate)
        assert list(candidate["metrics"]) == [VALIDATION, TEST]
        assert all(isinstance(value, float) for value in candidate["metrics"].values())
    assert list(result["best"]["predicted"]) == [VALIDATION]
    assert set(result["predictor"]) == {"use", "pairs", "r2", "kendall_tau"}
    assert result["evaluations"] == {"measured": EVALUATIONS, "cached": 0}
    assert result["predictor"]["pairs"] == 12 + 2 * 3
    assert result["quality_card"]["pairs"] == 12 + 2 * 3
    assert [(each["round"], each["pairs"], len(each["chosen"])) for each in result["rounds"]] == [
        (1, 12, 3),
        (2, 15, 3),
    ]
    assert result["refinement"] is None
    assert result["seconds"] > 0
    assert (finished[0].folder / result["export"]["folder"]).is_dir()


def test_stdout_holds_one_line_of_json_and_stderr_the_progress(finished: Finished) -> None:
    outcome = finished[1]
    assert outcome.stdout.count("\n") == 1
    assert isinstance(json.loads(outcome.stdout), dict)
    said = outcome.stderr.splitlines()
    assert said[-1] == f"writing {finished[0].folder / 'out' / 'tiny'}"
    assert said[:-1] in ([], ["ranking heads and channels (taylor)"])  # empty if the ranking is cached by another run


def test_quiet_says_nothing_on_stderr(workplace: Workplace) -> None:
    outcome = workplace.prunecast("run", "tiny.yaml", "--quiet", *UNEXPORTED)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert f"{EVALUATIONS} measured, 0 from the registry" in outcome.stdout


def test_best_meets_the_budget_and_baselines_have_its_parameter_count(finished: Finished) -> None:
    result = finished[1].json
    assert result["budget"] == {"parameters": int(0.8 * result["dense"]["parameters"])}
    assert all(verified["parameters"] <= result["budget"]["parameters"] for verified in result["verified"])
    # One channel in all four layers is the finest step that a uniform width of this model can take.
    step = 4 * 3 * 64
    for baseline in result["baselines"]:
        assert 0 <= result["best"]["parameters"] - baseline["parameters"] < step


def test_best_is_the_best_measured_at_the_budget(finished: Finished) -> None:
    workplace, outcome = finished
    rows = workplace.prunecast("registry", "best", VALIDATION, "--budget", "parameters=0.8", "--json").json
    searched = [
        row for row in rows if row["architecture"] not in {b["architecture"] for b in outcome.json["baselines"]}
    ]
    assert searched[0]["architecture"] == outcome.json["best"]["architecture"]


def test_metrics_of_the_result_match_the_registry(finished: Finished) -> None:
    workplace, outcome = finished
    rows = workplace.prunecast("registry", "query", "--run", "1", "--limit", "1000", "--json").json
    recorded = {
        (row["architecture"], column): (value, row["parameters"])
        for row in rows
        for column, value in row.items()
        if column.endswith(".ppl") and value is not None
    }
    assert len(recorded) == outcome.json["evaluations"]["measured"]
    for candidate in candidates(outcome.json):
        for metric, value in candidate["metrics"].items():
            assert recorded[candidate["architecture"], metric] == (value, candidate["parameters"])
    assert workplace.prunecast("runs", "show", "1", "--json").json["result"] == outcome.json


def test_exported_model_has_the_registered_perplexity_in_stock_transformers(finished: Finished) -> None:
    import torch
    from torch.nn import functional
    from transformers import AutoModelForCausalLM, AutoTokenizer

    workplace, outcome = finished
    folder = workplace.folder / outcome.json["export"]["folder"]
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert model.num_parameters() == outcome.json["best"]["parameters"] == outcome.json["export"]["parameters"]
    assert model.generation_config.eos_token_id == [2, 1]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for metric, file in ((VALIDATION, "validation.txt"), (TEST, "test.txt")):
        text = (workplace.folder / file).read_text()
        ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"][:256]).view(4, 64)
        with torch.inference_mode():
            logits = model(ids).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        assert loss.exp().item() == pytest.approx(outcome.json["best"]["metrics"][metric], rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"pruner": "magnitude", "searcher": {"use": "random", "samples": 200}},
        {"predictor": {"use": "xgboost", "trees": 10, "members": 2}},
        {"pruner": SPEC["pruner"] | {"compensate": {"method": "least-squares", "calibration": [CALIBRATION]}}},
    ],
    ids=["magnitude-random", "xgboost", "least-squares"],
)
def test_a_run_works_with_other_plugins(workplace: Workplace, changes: dict[str, Any]) -> None:
    workplace.write_spec("other", changes | {"export": None})
    result = run(workplace, spec="other.yaml")
    assert result["evaluations"]["measured"] >= 20
    assert result["best"]["parameters"] <= result["budget"]["parameters"]
    assert result["export"] is None


def test_a_run_without_an_architecture_within_the_budget_is_an_error(workplace: Workplace) -> None:
    spread = {"choose": {"rule": "spread"}, "collect": {"pairs": 4, "band": None}, "rounds": 1, "per_round": 2}
    workplace.write_spec("spread", spread | {"budget": {"parameters": 0.16}, "export": None, "baselines": []})
    outcome = workplace.prunecast("run", "spread.yaml", "--quiet")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("error: no measured architecture meets the budget: ")


# ---------------------------------------------------------------------------------------- reuse of evaluations


def test_a_second_run_measures_nothing_and_finds_the_same_best(finished: Finished, continued: Workplace) -> None:
    first = finished[1].json
    second = run(continued, *UNEXPORTED)
    assert second["evaluations"] == {"measured": 0, "cached": first["evaluations"]["measured"]}
    assert (second["run"], second["best"], second["baselines"]) == (first["run"], first["best"], first["baselines"])
    table = continued.prunecast("run", "tiny.yaml", *UNEXPORTED)
    assert f"0 measured, {first['evaluations']['measured']} from the registry" in table.stdout


def test_another_spec_reuses_shared_evaluations(continued: Workplace) -> None:
    continued.write_spec(
        "other", {"searcher": {"use": "random", "samples": 50}, "predictor": "xgboost", "export": None}
    )
    result = run(continued, spec="other.yaml")
    assert result["run"] == 2
    measured, shared = continued.sql("SELECT measured, reused FROM run_summary WHERE run_id = 2")[0]
    assert result["evaluations"] == {"measured": measured, "cached": shared}
    assert measured > 0
    assert shared >= 2 + 12  # the dense model under both evaluators, and all pairs


MATERIAL = {
    "pruner option": ("pruner.calibration.samples=3",),
    "pruner": ("pruner=magnitude",),
    "dtype": ("model.dtype=bfloat16",),
    "evaluator tokens": ("evaluators.0.tokens=192", "verify.evaluators.0.tokens=192"),
    "evaluator context": ("evaluators.0.context=32", "verify.evaluators.0.context=32"),
}


@pytest.mark.parametrize("overrides", MATERIAL.values(), ids=MATERIAL)
def test_options_that_change_metrics_measure_again(continued: Workplace, overrides: tuple[str, ...]) -> None:
    result = run(continued, *UNEXPORTED, *(part for override in overrides for part in ("--set", override)))
    assert result["evaluations"]["cached"] == 0
    assert result["evaluations"]["measured"] >= 20


@pytest.mark.parametrize(("file", "cached"), [("calibration.txt", 0), ("validation.txt", 6)])
def test_another_text_under_the_same_name_measures_again(continued: Workplace, file: str, cached: int) -> None:
    path = continued.folder / file
    path.write_text(path.read_text()[::-1])
    result = run(continued, *UNEXPORTED)
    # With another validation text, metrics on the test text of repeated architectures are still valid.
    assert result["evaluations"]["cached"] <= cached
    assert result["evaluations"]["measured"] >= 19


def test_another_model_under_the_same_name_measures_again(continued: Workplace, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(continued.folder / "model", other)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"][0] += 0.5
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    (continued.folder / "model").unlink()
    (continued.folder / "model").symlink_to(other)
    assert run(continued, *UNEXPORTED)["evaluations"]["cached"] == 0


def test_batch_size_does_not_change_keys(continued: Workplace) -> None:
    result = run(continued, *UNEXPORTED, "--set", "evaluators.0.batch=1", "--set", "verify.evaluators.0.batch=3")
    assert result["evaluations"]["measured"] == 0
