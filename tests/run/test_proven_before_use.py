"""A family that is not bundled is proven before the first run that uses it, and a wrong description stops the run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from workplace import Workplace

from prunecast.export.proof import kept
from prunecast.models.families.small import small

WRONG = """\
name: persimmon
attention: self_attn
query: self_attn.query_key_value
key: self_attn.query_key_value
value: self_attn.query_key_value
output: self_attn.dense
fused: stack
gate: null
up: mlp.dense_h_to_4h
down: mlp.dense_4h_to_h
groups_attribute: null
follows: {num_heads: query_heads}
"""


@pytest.fixture
def persimmon(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A workplace whose ``persimmon.yaml`` prunes a model of a family that no file describes, with an empty cache."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, PersimmonConfig

    monkeypatch.setenv("PRUNECAST_CACHE", str(workplace.folder / "cache"))
    config = small(PersimmonConfig())
    config.vocab_size = 98
    tokenizer: Any = AutoTokenizer.from_pretrained(workplace.folder / "model")
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(workplace.folder / "persimmon")
    tokenizer.save_pretrained(workplace.folder / "persimmon")
    texts = {"dataset": "validation.txt", "tokens": 64, "context": 32}
    workplace.write_spec(
        "persimmon",
        {
            "model": {"source": "persimmon", "dtype": "float32", "device": "cpu"},
            "evaluators": [{"use": "perplexity", **texts}],
            "verify": {"top": 1, "evaluators": []},
            "export": None,
        },
    )
    return workplace


def test_a_detected_family_is_proven_once_and_said_in_one_line(
    persimmon: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = persimmon.prunecast("run", "persimmon.yaml", "--dry-run")
    assert first.code == 0
    lines = [line for line in (first.stdout + first.stderr).splitlines() if "family persimmon: proven in" in line]
    assert len(lines) == 1
    (file,) = Path(persimmon.folder, "cache", "proofs").iterdir()
    assert file.name.startswith("persimmon-")
    monkeypatch.setattr(kept, "prove", None)  # would fail if it were called
    again = persimmon.prunecast("run", "persimmon.yaml", "--dry-run")
    assert again.code == 0
    assert lines[0] in (again.stdout + again.stderr)


def test_a_bundled_family_is_not_proven_again(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "prove", None)
    outcome = workplace.prunecast("run", "tiny.yaml", "--dry-run")
    assert outcome.code == 0
    assert "proven" not in outcome.stdout + outcome.stderr


def test_a_wrong_description_stops_the_run_before_it_measures(persimmon: Workplace) -> None:
    (persimmon.folder / "wrong.yaml").write_text(WRONG)
    outcome = persimmon.prunecast("run", "persimmon.yaml", "--set", "model.family=wrong.yaml")
    assert outcome.code == 1
    assert "family 'persimmon' is not described rightly: " in outcome.stderr
    assert persimmon.sql("SELECT count(*) FROM evaluations")[0][0] == 0
