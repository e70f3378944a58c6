"""``prunecast export``: models of a finished run, exported again without measuring."""

import json

import pytest
from workplace import EVALUATIONS, Outcome, Workplace

from prunecast.architecture.architecture import Architecture


def test_export_repeats_the_best_model_exactly_and_replaces_it_by_another(
    finished: tuple[Workplace, Outcome], continued: Workplace
) -> None:
    workplace, outcome = finished
    folder = continued.folder / "again"
    report = continued.prunecast("export", "tiny", "again", "--json").json
    assert report["parameters"] == outcome.json["best"]["parameters"]
    for name in ("model.safetensors", "architecture.json", "modeling_prunecast.py", "tokenizer.json"):
        assert (folder / name).read_bytes() == (workplace.folder / "out/tiny" / name).read_bytes()
    assert "| best |" in (folder / "README.md").read_text()

    text = "4x2+24*2 0+12 2x2+0"
    refused = continued.prunecast("export", "1", "again", "--architecture", text)
    assert (refused.code, refused.stderr.count("\n")) == (1, 1)
    assert "again holds the export of run 'tiny', of another architecture" in refused.stderr
    other = continued.prunecast("export", "1", "again", "--architecture", text, "--overwrite")
    assert (other.code, other.stdout.count("\n")) == (0, 1), other.stderr
    written = json.loads((folder / "architecture.json").read_text())
    assert written == [list(layer) for layer in Architecture.parse(text).layers]
    assert "| best |" not in (folder / "README.md").read_text()  # the measured numbers belong to another model
    assert continued.sql("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM evaluations)") == [(1, EVALUATIONS)]


def test_an_invalid_architecture_is_a_one_line_error(continued: Workplace) -> None:
    for text, part in (
        ("4y2+24*4", "the architecture: "),
        ("", "the architecture: "),
        ("4x2+24*5", "the architecture has 5 layers, the model 4"),
        ("4x2+25*4", "the model has (4, 2, 24)"),
    ):
        outcome = continued.prunecast("export", "1", "other", "--architecture", text)
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
        assert part in outcome.stderr
    assert not (continued.folder / "other").exists()


UNIFORM = {"use": "uniform", "attention": [0.0, 0.5], "mlp": [0.0, 0.125, 0.25, 0.5], "drop": {"layers": "1:-1"}}


@pytest.mark.slow
def test_a_run_writes_every_target_and_proposes_only_what_all_can_express(workplace: Workplace) -> None:
    """Without the limits of the target stock, the layers of the best architecture would differ."""
    export = {"path": "out/{name}", "targets": ["huggingface", "stock"]}
    workplace.write_spec("both", {"space": UNIFORM, "export": export, "rounds": 1, "baselines": ["uniform-mlp"]})
    result = workplace.prunecast("run", "both.yaml", "--json").json
    folders = [workplace.folder / "out" / "both" / target for target in ("huggingface", "stock")]
    assert [each["target"] for each in result["exports"]] == ["huggingface", "stock"]
    assert [each["folder"] for each in result["exports"]] == list(map(str, folders))
    assert result["export"] == result["exports"][0]
    kept = {tuple(layer) for layer in json.loads((folders[1] / "architecture.json").read_text())} - {(0, 0, 0)}
    assert len(kept) == 1
    assert json.loads((folders[1] / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert not list(folders[1].glob("*.py"))
    rows = workplace.sql("SELECT target, folder, parameters, engine LIKE 'transformers %' FROM exports ORDER BY id")
    assert rows == [(each["target"], each["folder"], each["parameters"], 1) for each in result["exports"]]
    again = workplace.prunecast("run", "both.yaml", "--json").json
    assert all(each["unchanged"] for each in again["exports"])


def test_a_target_is_chosen_for_a_run_that_is_there(continued: Workplace) -> None:
    uniform = ("--architecture", "2x2+24*2 0+0 2x2+24")
    outcome = continued.prunecast("export", "1", "other", "--target", "stock", *uniform)
    assert outcome.code == 0, outcome.stderr
    assert "logits within" in outcome.stdout
    assert "stock" in continued.prunecast("runs", "show", "1").stdout
    again = continued.prunecast("export", "1", "other", "--target", "stock", *uniform)
    assert again.stdout.endswith("unchanged\n")
    taken = continued.prunecast("export", "1", "other", *uniform)
    assert "other holds the export of run 'tiny', of another target" in taken.stderr


def test_what_a_target_does_not_take_is_a_one_line_error(continued: Workplace) -> None:
    for options, part in (
        (("--target", "stock"), "stock cannot express this architecture: its layers differ in size"),
        (("--target", "gguff"), "--target: no exporter is called 'gguff' (did you mean 'gguf'?)"),
        (("--target", "gguf", "--dtype", "q9"), "--dtype: Input should be 'f32', 'f16', 'bf16', 'q8_0' or 'q4_0'"),
        (("--dtype", "q8_0"), "--dtype: weights are not written in 'q8_0': choose one of measured, float32"),
        (("--target", "gguf"), "cannot be written as GGUF"),
    ):
        outcome = continued.prunecast("export", "1", "other", *options, "--architecture", "4x2+24*2 0+12 2x2+0")
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1), outcome.stderr
        assert part in outcome.stderr
    assert not (continued.folder / "other").exists()


def test_a_target_that_leaves_nothing_to_choose_is_told_before_a_run(workplace: Workplace) -> None:
    space = {"use": "layerwise", "layers": "1:"}
    workplace.write_spec("other", {"space": space, "export": {"path": "o", "targets": ["stock"]}})
    outcome = workplace.prunecast("spec", "validate", "other.yaml")
    assert (outcome.code, outcome.stderr.count("\n")) == (1, 1)
    assert "leave the space nothing to choose: let it prune all layers (layers: ':')" in outcome.stderr
