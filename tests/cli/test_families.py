"""``prunecast families``: what can be pruned, and the proof of a model, of a family and of a file."""

import json

import pytest
from places import REPOSITORY
from workplace import Workplace

WRONG = """\
name: gemma2
attention_norms: [pre_feedforward_layernorm, post_attention_layernorm]
mlp_norms: [input_layernorm, post_feedforward_layernorm]
"""


def test_a_family_is_proven_with_its_variants(workplace: Workplace) -> None:
    outcome = workplace.prunecast("families", "check", "falcon")
    lines = outcome.stdout.splitlines()
    assert outcome.code == 0
    assert len(lines) == 2
    assert all(line.startswith("family falcon: proven in ") for line in lines)
    assert "new_decoder_architecture=True" in lines[1]


def test_a_model_is_proven_by_its_config_alone(workplace: Workplace) -> None:
    folder = workplace.folder / "bare"
    folder.mkdir()
    (folder / "config.json").write_text((workplace.folder / "model" / "config.json").read_text())
    outcome = workplace.prunecast("families", "check", "bare", "--json")
    (proof,) = json.loads(outcome.stdout)
    assert (outcome.code, proof["family"], proof["config"]) == (0, "llama", {})
    assert proof["worst"] < 1e-9
    assert proof["comparisons"]["exported"] > 8


def test_a_detected_family_is_proven(workplace: Workplace) -> None:
    outcome = workplace.prunecast("families", "check", "persimmon")
    assert outcome.code == 0
    assert outcome.stdout.startswith("family persimmon: proven in ")


def test_a_wrong_file_fails_in_one_line(workplace: Workplace) -> None:
    (workplace.folder / "gemma2.yaml").write_text(WRONG)
    outcome = workplace.prunecast("families", "check", "gemma2.yaml")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("error: family 'gemma2' is not described rightly: elastic, architecture ")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("mamba", "cannot be detected: it has state space or linear attention layers"),
        ("gemma3", "it is multimodal; take its text model, of type 'gemma3_text'"),
        ("nothing-here", "no such"),
        ("gone.yaml", "gone.yaml"),
    ],
)
def test_what_cannot_be_proven_is_one_line(workplace: Workplace, subject: str, message: str) -> None:
    outcome = workplace.prunecast("families", "check", subject)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (
            "mixtral",
            r"it has experts (model.layers.0.mlp.experts.gate_up_proj); .* described with down='mlp.down_proj'",
        ),
        ("mamba", "it has state space or linear attention layers ("),
        ("whisper", "it is an encoder with a decoder"),
    ],
)
def test_a_file_of_what_no_description_fits_is_told_what_it_is(workplace: Workplace, kind: str, what: str) -> None:
    (workplace.folder / "own.yaml").write_text(f"name: {kind}\n")
    outcome = workplace.prunecast("families", "check", "own.yaml")
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert outcome.stderr.startswith(f"error: model type '{kind}' cannot be pruned by any description: ")
    assert all(part in outcome.stderr for part in what.split(" .* "))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_least_fifty_types_are_proven_and_all_others_have_a_reason(workplace: Workplace) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    outcome = workplace.prunecast("families", "list", "--prove", "--json")
    rows = {row["type"]: row for row in json.loads(outcome.stdout)}
    assert set(rows) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    proven = [row for row in rows.values() if row["proven"]]
    assert len(proven) >= 50
    assert all("huggingface" in row["exports"] and not row["reason"] for row in proven)
    others = [row for row in rows.values() if not row["proven"]]
    assert all(row["reason"] and not row["exports"] for row in others)
    assert all(row["state"] == "refused" for row in others)
    page = workplace.prunecast("families", "list", "--prove", "--markdown").stdout
    assert (REPOSITORY / "docs" / "reference" / "models.md").read_text(encoding="utf-8") == page, (
        "stale: run `make docs`"
    )
