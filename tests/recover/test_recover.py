"""Recovery training in runs of a tiny model."""

import json
import re
from typing import Any

import pytest
from workplace import EVALUATIONS, Workplace

VALIDATION, TEST = "validation.validation.ppl", "test.test.ppl"
ALIKE = {"dtype": "float32"}  # the same on every processor, with or without bfloat16
LORA = {"method": "lora", "dataset": "instructions.jsonl", "tokens": 400, "steps": 3, "batch": 2, "rank": 2} | ALIKE
DISTILL = ALIKE | {
    "method": "distill",
    "dataset": "calibration.txt",
    "samples": 32,
    "tokens": 64,
    "epochs": 4,
    "learning_rate": 0.001,
}


@pytest.fixture
def place(continued: Workplace) -> Workplace:
    """Workplace of a finished run without recovery, with a file of instructions."""
    text = (continued.folder / "calibration.txt").read_text()
    rows = [{"instruction": text[i : i + 9], "input": "", "output": text[i + 9 : i + 40]} for i in range(0, 640, 64)]
    (continued.folder / "instructions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return continued


def recover(place: Workplace, options: dict[str, Any], *arguments: str) -> tuple[dict[str, Any], str]:
    place.write_spec("tiny", {"recover": options, "export": None})
    outcome = place.prunecast("run", "tiny.yaml", "--json", *arguments)
    assert outcome.code == 0, outcome.stderr
    return outcome.json, outcome.stderr


def test_distillation_on_generated_text_lowers_the_perplexity(place: Workplace) -> None:
    harder = ("--set", "budget.parameters=0.7")  # a strong loss of accuracy, so that recovery has a clear effect
    assert place.prunecast("run", "tiny.yaml", "--set", "export=null", *harder).code == 0
    result, said = recover(place, DISTILL, *harder)
    recovery, best = result["recovery"], result["best"]
    assert recovery["after"]["architecture"] == best["architecture"]
    assert recovery["after"]["parameters"] == best["parameters"]
    assert recovery["after"]["metrics"][TEST] < 0.95 * best["metrics"][TEST]
    assert (recovery["method"], recovery["steps"], len(recovery["losses"])) == ("distill", 16, 16)
    assert recovery["losses"][-1] < 0.9 * recovery["losses"][0]
    assert "recovering by distill: 16 steps" in said
    assert result["evaluations"] == {"measured": 2, "cached": EVALUATIONS}


def test_table_shows_the_model_before_and_after_recovery(place: Workplace) -> None:
    place.write_spec("tiny", {"recover": LORA, "export": None})
    table = place.prunecast("run", "tiny.yaml").stdout
    rows = [line.split("  ")[0] for line in table.splitlines()]
    assert rows.index("best, recovered by lora") == rows.index("best, measured") + 1
    assert "recovery      lora on instructions.jsonl, 3 steps of 2 in" in table


def test_recovered_and_pruned_metrics_are_stored_separately(place: Workplace) -> None:
    before = place.prunecast("run", "tiny.yaml", "--json", "--set", "export=null").json
    result, _ = recover(place, LORA)
    rows = place.sql(
        "SELECT DISTINCT pruner, pruner_options_json FROM measurements WHERE pruner LIKE '%+%' ORDER BY pruner"
    )
    [(pruner, options)] = rows
    assert pruner == "taylor+lora"
    assert json.loads(options)["recover"] == {
        **LORA,
        "version": 1,
    }
    after = place.prunecast("run", "tiny.yaml", "--json", "--set", "recover=null").json
    assert after["best"] == before["best"]
    assert after["evaluations"]["measured"] == 0
    assert result["best"] == before["best"]


def test_a_finished_recovery_is_not_trained_or_measured_again(place: Workplace) -> None:
    first, _ = recover(place, LORA)
    second, said = recover(place, LORA)
    assert second["evaluations"]["measured"] == 0
    assert second["recovery"] == first["recovery"]
    assert "recovering" not in said


@pytest.mark.slow
def test_a_finished_recovery_keeps_its_metrics_without_its_weights(
    place: Workplace, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = recover(place, LORA)
    monkeypatch.setenv("PRUNECAST_CACHE", str(tmp_path / "empty"))
    second, said = recover(place, LORA)
    assert "recovering" not in said
    assert second["recovery"]["after"] == first["recovery"]["after"]
    assert second["recovery"]["losses"] is None
    assert (
        "lora on instructions.jsonl, 3 steps of 2; its losses are not on this machine"
        in place.prunecast("run", "tiny.yaml").stdout
    )


MATERIAL = {
    "seed": "recover.seed=1",
    "rank": "recover.rank=3",
    "learning rate": "recover.learning_rate=0.0002",
    "targets": "recover.targets=[query, down]",
    "length of the examples": "recover.tokens=160",
}


@pytest.mark.slow
@pytest.mark.parametrize("override", MATERIAL.values(), ids=MATERIAL)
def test_options_that_change_the_weights_train_and_measure_again(place: Workplace, override: str) -> None:
    first, _ = recover(place, LORA)
    result, said = recover(place, LORA, "--set", override)
    assert "recovering by lora" in said
    assert result["evaluations"]["measured"] == 2
    assert result["recovery"]["after"]["metrics"] != first["recovery"]["after"]["metrics"]


def test_gradient_checkpointing_does_not_train_or_measure_again(place: Workplace) -> None:
    recover(place, LORA)
    result, said = recover(place, LORA, "--set", "recover.gradient_checkpointing=true")
    assert result["evaluations"]["measured"] == 0
    assert "recovering" not in said


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_weights(
    place: Workplace, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = recover(place, LORA)
    monkeypatch.setenv("PRUNECAST_CACHE", str(tmp_path / "empty"))
    place.registry.unlink()
    result, _ = recover(place, LORA, "--set", "recover.gradient_checkpointing=true")
    assert result["recovery"]["losses"] == first["recovery"]["losses"]
    assert result["recovery"]["after"]["metrics"] == pytest.approx(first["recovery"]["after"]["metrics"], rel=1e-5)


@pytest.mark.slow
def test_the_exported_model_is_the_recovered_one(place: Workplace) -> None:
    """The perplexity computed from the exported folder equals the one after recovery."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place.write_spec("tiny", {"recover": DISTILL})
    result = place.prunecast("run", "tiny.yaml", "--json").json
    folder = place.folder / result["export"]["folder"]
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    ids = AutoTokenizer.from_pretrained(folder)((place.folder / "test.txt").read_text())["input_ids"][:256]
    with torch.inference_mode():
        losses = [
            torch.nn.functional.cross_entropy(model(window[None]).logits[0, :-1], window[1:], reduction="sum")
            for window in torch.tensor(ids).split(64)
        ]
    assert torch.stack(losses).sum().div(252).exp().item() == pytest.approx(
        result["recovery"]["after"]["metrics"][TEST], rel=1e-4
    )
    card = (folder / "README.md").read_text()
    assert f"| recovered | {result['best']['parameters']:,} |" in card
    again = place.prunecast("export", "1" if result["run"] == 1 else "2", "out/again", "--json")
    assert again.json["max_logit_difference"] < 1e-3
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, place.folder / "out" / "again")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_another_architecture_of_a_recovered_run_is_exported_unrecovered(place: Workplace) -> None:
    recover(place, LORA)
    outcome = place.prunecast("export", "2", "out/other", "--architecture", "3x2+20*4")
    assert outcome.code == 0, outcome.stderr
    assert "| recovered |" not in (place.folder / "out" / "other" / "README.md").read_text()


# --------------------------------------------------------------------------------------------- before measuring


def test_qlora_without_a_gpu_fails_before_measuring(workplace: Workplace) -> None:
    workplace.write_spec("tiny", {"recover": {"method": "qlora"}})
    outcome = workplace.prunecast("run", "tiny.yaml")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr == "error: recover: method qlora needs a CUDA GPU, this run computes on cpu: use lora\n"
    assert workplace.sql("SELECT count(*) FROM evaluations") == [(0,)]


def test_lora_without_peft_fails_before_measuring(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    workplace.write_spec("tiny", {"recover": {"method": "lora"}})
    outcome = workplace.prunecast("run", "tiny.yaml")
    assert outcome.stderr.startswith("error: recover: method lora needs peft: install it with pip install")
    assert workplace.sql("SELECT count(*) FROM evaluations") == [(0,)]


def test_training_on_evaluation_text_is_refused(workplace: Workplace) -> None:
    workplace.write_spec("tiny", {"recover": {**DISTILL, "dataset": "test.txt"}})
    outcome = workplace.prunecast("run", "tiny.yaml")
    assert outcome.code == 1
    assert outcome.stderr.startswith("error: data set test.txt, split test: used for calibration and for evaluation")


def test_dry_run_lists_the_recovery_even_without_its_hardware(place: Workplace) -> None:
    place.write_spec("tiny", {"recover": {**LORA, "method": "qlora"}})
    outcome = place.prunecast("run", "tiny.yaml", "--dry-run", "--json")
    assert outcome.code == 0, outcome.stderr
    step = outcome.json["steps"][-1]
    assert (step["stage"], step["architectures"], step["evaluations"], step["cached"]) == ("recover", 1, 2, None)
    assert step["seconds"] > 0


def test_diverging_training_is_a_one_line_error(place: Workplace) -> None:
    place.write_spec("tiny", {"recover": {**DISTILL, "learning_rate": 1e30}, "export": None})
    outcome = place.prunecast("run", "tiny.yaml")
    assert outcome.code == 1
    assert re.search(r"error: recover: the loss is nan at step \d of 16: lower recover\.learning_rate", outcome.stderr)
    assert place.sql("SELECT status FROM runs WHERE id = 2") == [("failed",)]


MISTAKES = {
    "{method: lora, rnk: 4}": "recover.rnk: unknown option 'rnk' (did you mean 'rank'?); known: rank, alpha, dropout, "
    "targets, epochs, steps, batch, micro_batch, warmup, dtype, gradient_checkpointing, seed, bos, dataset, split, "
    "tokens, learning_rate, method",
    "{method: lor}": "recover: 'method' must be one of 'lora', 'qlora', 'distill', got 'lor' (did you mean 'lora'?)",
    "{rank: 4}": "recover: needs the key 'method', which decides what other keys are allowed",
    "{method: lora, targets: [knee]}": "recover.targets.0: must be 'query', 'key', 'value', 'output', 'gate', 'up' or "
    "'down', got 'knee'",
}


@pytest.mark.parametrize("value", MISTAKES)
def test_errors_in_the_recover_section_suggest_a_correction(workplace: Workplace, value: str) -> None:
    outcome = workplace.prunecast("spec", "validate", "tiny.yaml", "--set", f"recover={value}")
    assert outcome.code == 1
    assert MISTAKES[value] in outcome.stderr
