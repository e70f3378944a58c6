"""All checks of the description, and a model that is pruned, exported and loaded again without this package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from prunecast_family import auto, prunecast_families

import prunecast
from prunecast.testing import FamilyConformance, byte_tokenizer

DESCRIPTION = Path(auto.__file__).with_name("twin.yaml")

LOAD = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
sys.modules["prunecast"] = sys.modules["prunecast_family"] = None  # an import of either fails
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
tokens = torch.arange(40)[None] % model.config.vocab_size
print(json.dumps({"class": type(model).__name__, "parameters": model.num_parameters(),
                  "loss": model(tokens, labels=tokens).loss.item()}))
"""


class TestTwin(FamilyConformance):
    plugin = prunecast_families()[0]


def elsewhere(folder: Path) -> dict[str, object]:
    """What a process that has neither prunecast nor this package says of a model."""
    command = [sys.executable, "-P", "-c", LOAD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random model, with its code and a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "model"
    torch.manual_seed(0)
    auto.TwinForCausalLM(auto.TwinConfig()).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def run(model: Path, smaller: Path, **changes: object) -> None:
    """Prune a model to 80 % of its parameters and export the result."""
    spec = {
        "name": smaller.name,
        "model": {"source": str(model), "family": str(DESCRIPTION), "dtype": "float32", **changes},
        "space": "layerwise",
        "pruner": "magnitude",
        "evaluators": [{"use": "perplexity", "dataset": "python-docs", "split": "test", "tokens": 256, "context": 64}],
        "predictor": "gp",
        "searcher": {"use": "random", "samples": 50},
        "budget": {"parameters": 0.8},
        "collect": {"pairs": 4},
        "per_round": 1,
        "verify": {"top": 1},
        "baselines": [],
        "export": {"path": str(smaller)},
    }
    prunecast.run(spec, smaller.parent / "registry.db", progress=False)


def test_the_saved_model_loads_with_its_own_code(model: Path) -> None:
    found = elsewhere(model)
    assert found["class"] == "TwinForCausalLM"
    assert found["parameters"] == auto.TwinForCausalLM(auto.TwinConfig()).num_parameters()


def test_a_pruned_model_loads_elsewhere_and_is_a_model_to_prune_again(model: Path, tmp_path: Path) -> None:
    dense = elsewhere(model)["parameters"]
    assert isinstance(dense, int)
    run(model, tmp_path / "first")
    first = elsewhere(tmp_path / "first")["parameters"]
    assert isinstance(first, int)
    assert 0.6 * dense < first <= 0.8 * dense
    run(tmp_path / "first", tmp_path / "second")
    second = elsewhere(tmp_path / "second")
    assert second["class"] == "PrunedTwinForCausalLM"
    assert 0.6 * first < second["parameters"] <= 0.8 * first  # type: ignore[operator]
