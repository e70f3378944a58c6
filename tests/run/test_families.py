"""Every described family, from a folder of its own to an exported model, with the command line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from slow_cases import slow_but
from workplace import Workplace

from prunecast.models.families.small import small
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost

TOKENS, CONTEXT, VOCABULARY = 256, 32, 98

QUICK = ("llama",)
"""Families of a daily run."""

FAMILIES = slow_but(QUICK, sorted(families_of(PluginHost.discover())))


def save_model(kind: str, folder: Path, tokenizer_of: Path) -> None:
    """Save a small random model of a type, with a tokenizer of single characters."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

    config = small(CONFIG_MAPPING[kind]())
    config.vocab_size = VOCABULARY
    tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer_of)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.15 + (1.0 if parameter.ndim == 1 else 0.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def perplexity(folder: Path, text: Path, bos: bool) -> float:
    """Perplexity of a folder as anyone loads it, in windows of CONTEXT tokens; the first of each is not predicted."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    ids = tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"][:TOKENS]
    windows = torch.tensor(ids).view(-1, CONTEXT)
    front = torch.full((len(windows), 1), tokenizer.bos_token_id) if bos else windows[:, :0]
    with torch.inference_mode():
        logits = model(torch.cat([front, windows], dim=1), use_cache=False).logits
    scores = logits[:, front.shape[1] : -1].log_softmax(-1)
    return math.exp(-scores.gather(-1, windows[:, 1:, None]).mean())


def write_spec(workplace: Workplace) -> None:
    """Write ``family.yaml``, a short run on ``small``."""
    evaluator = {"use": "perplexity", "tokens": TOKENS, "context": CONTEXT}
    workplace.write_spec(
        "family",
        {
            "model": {"source": "small", "dtype": "float32", "device": "cpu"},
            "space": {"use": "layerwise", "attention": [0.0, 0.34, 0.67, 1.0], "mlp": [0.0, 0.25, 0.5, 1.0]},
            "evaluators": [{**evaluator, "dataset": "validation.txt"}],
            "verify": {"top": 1, "evaluators": [{**evaluator, "dataset": "test.txt", "split": "test"}]},
            "budget": {"parameters_without_embeddings": 0.7},
            "collect": {"pairs": 6},
            "rounds": 1,
            "export": {"path": "out/small"},
        },
    )


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_model_of_the_family_is_pruned_exported_and_loaded_again(
    kind: str, workplace: Workplace, tiny_checkpoint: Path
) -> None:
    folder, text = workplace.folder / "small", workplace.folder / "test.txt"
    save_model(kind, folder, tiny_checkpoint)
    write_spec(workplace)
    outcome = workplace.prunecast("run", "family.yaml", "--json")
    assert outcome.code == 0, outcome.stderr
    result, bos = outcome.json, families_of(PluginHost.discover())[kind].bos
    metric = "test.test.ppl"
    assert result["dense"]["metrics"][metric] == pytest.approx(perplexity(folder, text, bos), rel=1e-4)
    assert result["best"]["parameters"] < 0.95 * result["dense"]["parameters"]
    exported = workplace.folder / "out" / "small"
    assert result["best"]["metrics"][metric] == pytest.approx(perplexity(exported, text, bos), rel=1e-3)
    assert json.loads((exported / "config.json").read_text())["model_type"] == f"prunecast-{kind}"
