"""Exports as models: pruned again, trained and pruned again, and the lineage that the registry and the card keep."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from workplace import Outcome, Workplace

TEXT = torch.arange(3, 63).view(2, 30)


def logits(folder: Path) -> torch.Tensor:
    """Logits of a folder as anyone loads it."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        return torch.as_tensor(model(TEXT, use_cache=False).logits)


def perplexity(folder: Path, workplace: Workplace) -> float:
    """Perplexity of a folder on the first 256 tokens of the test text in windows of 64, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    text = (workplace.folder / "test.txt").read_text(encoding="utf-8")
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"][:256]).view(-1, 64)
    with torch.inference_mode():
        scores = model(tokens, use_cache=False).logits[:, :-1].log_softmax(-1)
    return math.exp(-scores.gather(-1, tokens[:, 1:, None]).mean())


def again(workplace: Workplace, name: str, source: str, kept: float) -> Outcome:
    """A run of the tiny spec on a folder, exported to ``out/NAME``."""
    space = {"use": "layerwise", "layers": "0:4", "attention": [0.0, 0.5, 1.0], "mlp": [0.0, 0.25, 0.5]}
    changes = {
        "model": {"source": source, "dtype": "float32", "device": "cpu"},
        "space": space,
        "budget": {"parameters_without_embeddings": kept},
        "export": {"path": f"out/{name}"},
    }
    workplace.write_spec(name, changes)
    return workplace.prunecast("run", f"{name}.yaml", "--json")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tuple[Workplace, list[dict[str, Any]]]:
    """A workplace in which the model, its export, and the export of that have been pruned, and the results."""
    workplace = Workplace.make(tmp_path_factory.mktemp("twice"), tiny_checkpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNECAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        results = [
            again(workplace, "one", "model", 0.8).json,
            again(workplace, "two", "out/one", 0.8).json,
            again(workplace, "three", "out/two", 0.7).json,
        ]
    return workplace, results


@pytest.mark.slow
def test_an_export_is_pruned_again_and_again(twice: tuple[Workplace, list[dict[str, Any]]]) -> None:
    workplace, results = twice
    for before, after in itertools.pairwise(results):
        assert after["dense"]["architecture"] == before["best"]["architecture"], "the dense model is the export"
        assert after["dense"]["parameters"] == before["best"]["parameters"] == before["export"]["parameters"]
        assert after["best"]["parameters"] < after["dense"]["parameters"]
    metric = "test.test.ppl"
    for name, result in zip(("one", "two", "three"), results, strict=True):
        assert perplexity(workplace.folder / "out" / name, workplace) == pytest.approx(
            result["best"]["metrics"][metric], rel=1e-3
        )


@pytest.mark.slow
def test_the_lineage_is_kept_and_shown(twice: tuple[Workplace, list[dict[str, Any]]]) -> None:
    workplace, results = twice
    (made_from,) = workplace.sql("SELECT made_from_json FROM models ORDER BY id DESC LIMIT 1")[0]
    ancestors = json.loads(made_from)
    assert [Path(each["model"]).name for each in ancestors] == ["model", "one"]
    assert [each["run"] for each in ancestors] == ["one", "two"]
    assert [each["architecture"] for each in ancestors] == [result["best"]["architecture"] for result in results[:2]]
    keys = [key for (key,) in workplace.sql("SELECT key FROM models ORDER BY id")]
    assert [each["fingerprint"] for each in ancestors] == keys[:2]
    shown = workplace.prunecast("runs", "show", "three").stdout
    assert shown.count("made from") == 2
    assert "of which run one kept" in shown
    card = (workplace.folder / "out" / "three" / "README.md").read_text(encoding="utf-8")
    assert "by run two, made from" in card


@pytest.mark.slow
def test_an_export_that_was_trained_is_a_model_as_well(workplace: Workplace) -> None:
    """Saved by transformers after training, it has no manifest; its config still has the lineage."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert again(workplace, "one", "model", 0.8).code == 0
    folder, trained = workplace.folder / "out" / "one", workplace.folder / "trained"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss = model(TEXT, labels=TEXT).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(trained)
    AutoTokenizer.from_pretrained(folder, trust_remote_code=True).save_pretrained(trained)
    assert (logits(trained) - logits(folder)).abs().max() > 0.01, "training changed the model"
    result = again(workplace, "two", "trained", 0.8).json
    assert result["dense"]["metrics"]["test.test.ppl"] == pytest.approx(perplexity(trained, workplace), rel=1e-3)
    assert [each["run"] for each in result["model"]["made_from"]] == ["one"]


@pytest.mark.slow
def test_code_of_an_export_is_not_run(workplace: Workplace) -> None:
    assert again(workplace, "one", "model", 0.8).code == 0
    code = workplace.folder / "out" / "one" / "modeling_prunecast.py"
    code.write_text("raise SystemExit('it was run')\n" + code.read_text(encoding="utf-8"), encoding="utf-8")
    outcome = again(workplace, "two", "out/one", 0.8)
    assert outcome.code == 0
    assert "its own code (modeling_prunecast.Pruned" in outcome.stderr
