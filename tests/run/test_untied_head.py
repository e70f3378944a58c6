"""A model whose config says tied, and whose checkpoint holds a head of its own: counted, trained and written untied."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from saved_models import edit_weights
from workplace import Workplace

DISTILL = {
    "method": "distill",
    "dataset": "calibration.txt",
    "samples": 4,
    "tokens": 32,
    "epochs": 1,
    "batch": 2,
    "micro_batch": 2,
    "learning_rate": 0.001,
    "dtype": "float32",
}
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


@pytest.fixture
def untied(workplace: Workplace) -> Workplace:
    folder = workplace.folder / "untied"
    shutil.copytree(workplace.folder / "model", folder)
    edit_weights(folder, lambda weights: weights | {HEAD: weights[EMBED] * 1.5})
    return workplace


@pytest.mark.slow
@pytest.mark.parametrize("recover", [None, DISTILL], ids=["pruned", "recovered"])
def test_sizes_budget_and_export_are_those_of_the_loaded_model(untied: Workplace, recover: object) -> None:
    untied.write_spec("small", {"recover": recover, "rounds": 1, "per_round": 2, "collect": {"pairs": 4}})
    outcome = untied.prunecast("run", "small.yaml", "--json", "-q", "--set", "model.source=untied")
    result = outcome.json
    dense = sum(weight.numel() for weight in load_file(untied.folder / "untied" / "model.safetensors").values())
    assert result["dense"]["parameters"] == dense
    assert result["budget"]["parameters"] == pytest.approx(0.8 * dense, abs=1)
    folder = Path(untied.folder, result["export"]["folder"])
    written = load_file(folder / "model.safetensors")
    assert result["best"]["parameters"] == sum(weight.numel() for weight in written.values())
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    assert not torch.equal(written[HEAD], written[EMBED])
