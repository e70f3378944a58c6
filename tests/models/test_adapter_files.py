"""Adapters in a model's folder: refused, with code that merges them."""

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_models import edit_weights, logits_of

from prunecast.errors import ModelError
from prunecast.models.source import resolve_source


@pytest.fixture
def base(saved: Path, tiny_checkpoint: Path) -> Path:
    """The tiny model with a tokenizer."""
    return Path(shutil.copytree(tiny_checkpoint, saved, dirs_exist_ok=True))


def adapt(base: Path, folder: Path, **options: Any) -> torch.Tensor:
    """Save an adapter of ``base`` in ``folder``; returns the logits of the two together."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, lora_alpha=16, **options))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.2)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    return logits_of(model.eval())


@pytest.mark.parametrize("where", ["beside the weights", "alone", "with a config"])
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj"]])
def test_the_code_in_the_message_merges_it(base: Path, tmp_path: Path, where: str, targets: list[str]) -> None:
    folder = base if where == "beside the weights" else tmp_path / "adapter"
    expected = adapt(base, folder, target_modules=targets)
    if where == "with a config":
        shutil.copy(base / "config.json", folder)
    with pytest.raises(ModelError, match=r"an adapter lies in its folder .*: .*merge it first") as caught:
        resolve_source(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    with chdir(tmp_path):
        exec(message.split("in Python: ")[1], {})
    merged = resolve_source(str(tmp_path / f"{folder.name}-merged"))
    torch.testing.assert_close(logits_of(merged.load(torch.float32)), expected)
    assert merged.tokenizer() is not None


def test_without_the_files_that_the_message_names_the_merged_weights_load(base: Path) -> None:
    adapt(base, base, target_modules=["q_proj"])
    with pytest.raises(ModelError, match="already include the adapter") as caught:
        resolve_source(str(base))
    for name in str(caught.value).split("(or delete ")[1].split(", if ")[0].split(", "):
        (base / name).unlink()
    resolve_source(str(base)).check()


def test_names_from_the_adapter_run_no_code(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter", target_modules=["q_proj"])
    config = tmp_path / "adapter" / "adapter_config.json"
    hostile = "x'); open('ran', 'w'); ('\n$(touch ran)"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": hostile}))
    with pytest.raises(ModelError) as caught:
        resolve_source(str(tmp_path / "adapter"))
    message = str(caught.value)
    assert "\n" not in message
    assert repr(hostile) in message


def test_weights_of_an_adapter_without_its_config_are_refused(saved: Path) -> None:
    shutil.copy(saved / "model.safetensors", saved / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"\(adapter_model.safetensors\) without adapter_config.json: delete them"):
        resolve_source(str(saved))


def test_weights_that_hold_an_unmerged_adapter_are_refused(saved: Path) -> None:
    def unmerged(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        query = "model.layers.0.self_attn.q_proj"
        weight = weights.pop(f"{query}.weight")
        return weights | {f"{query}.base_layer.weight": weight, f"{query}.lora_A.default.weight": torch.ones(2, 64)}

    edit_weights(saved, unmerged)
    with pytest.raises(ModelError, match=r"hold an adapter that is not merged .*merge it first") as caught:
        resolve_source(str(saved)).check()
    assert "\n" not in str(caught.value)
