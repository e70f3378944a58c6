"""Perplexity of exported models of SmolLM2-135M in stock transformers, compared with the registry."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunecast.plugins import read_text

SPEC = """\
model: {source: smollm2-135m, dtype: float32}
space:
  use: layerwise
  layers: "3:28"
  attention: [0.0, 0.34, 0.67]
  mlp: [0.0, 0.2, 0.4, 0.6, 0.8]
  sampling: {draw: near}
pruner:
  use: taylor
  calibration: {dataset: python-docs, samples: 8, tokens: 128}
  compensate: {method: least-squares, calibration: [{dataset: python-docs, samples: 32, tokens: 128}]}
evaluators: [{use: perplexity, dataset: python-docs, split: validation, tokens: 4096, context: 512}]
predictor: {use: gbdt}
searcher: {use: random, samples: 500}
budget: {parameters: 0.8}
collect: {pairs: 4}
rounds: 1
per_round: 2
verify: {top: 1, evaluators: [{use: perplexity, dataset: python-docs, split: test, tokens: 4096, context: 512}]}
baselines: []
export: {path: exported}
"""
KEPT = (0.9, 0.8, 0.7, 0.6)
TARGET = 0.001


def pruned(folder: Path, kept: float) -> dict[str, Any]:
    """Metrics of the best model of a run, which exports it to ``exported``."""
    (folder / "exported.yaml").write_text(SPEC)
    run = [sys.executable, "-m", "prunecast", "run", "exported.yaml", "--json", "--set", f"budget.parameters={kept}"]
    finished = subprocess.run(run, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    metrics: dict[str, Any] = json.loads(finished.stdout)["best"]["metrics"]
    return metrics


def scored(folder: Path, split: str) -> float:
    """Perplexity of the exported model with stock transformers only, from all logits at once."""
    import torch
    from torch.nn import functional
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    text = read_text("python-docs", split)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"][:4096]).view(8, 512)
    with torch.inference_mode():
        logits = model(ids).logits
    return float(functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).exp())


@pytest.mark.parametrize("kept", KEPT)
def test_perplexity(kept: float, tmp_path: Path, report: Callable[[str], None]) -> None:
    metrics = pruned(tmp_path, kept)
    for split in ("validation", "test"):
        measured, stock = metrics[f"python-docs.{split}.ppl"], scored(tmp_path / "exported", split)
        apart = abs(stock / measured - 1)
        report(f"{kept:.0%} kept, {split} perplexity, registry / stock transformers   {measured:.4f} / {stock:.4f}")
        assert apart <= TARGET, f"{apart:.2%} apart, {TARGET:.1%} allowed"
