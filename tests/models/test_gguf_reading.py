"""GGUF files that transformers reads otherwise than llama.cpp: read right, or refused by their header."""

from pathlib import Path

import pytest
import torch
from gguf_models import CONFIGS, byte_tokenizer, model_of, source_of, written
from pruned_families import prune
from workplace import Workplace

from prunecast.errors import ModelError
from prunecast.export.gguf.write import write_gguf
from prunecast.models import source as sources
from prunecast.models.described import described
from prunecast.models.gguf_reading import check_reading
from prunecast.models.source import ModelSource, resolve_source
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost

pytestmark = pytest.mark.usefixtures("cache")

FAMILIES = families_of(PluginHost.discover())


def read(path: Path) -> ModelSource:
    """A file as a run reads it."""
    source = resolve_source(str(path))
    described(source, FAMILIES)
    return source


@pytest.mark.parametrize(
    ("name", "architecture"), [("mistral", "2x2+96*4"), ("qwen2", "4x1+64*4"), ("qwen3-own-head", "2x1+96*4")]
)
def test_a_uniform_model_that_was_written_is_read_as_it_is(name: str, architecture: str, tmp_path: Path) -> None:
    file, pruned = written(tmp_path, name, architecture)
    loaded = read(file.path).load(torch.float32)
    ids = torch.arange(2, 42)[None]
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, pruned.logits(ids), rtol=1e-4, atol=1e-4)
    assert loaded.model.layers[0].self_attn.head_dim == 16


@pytest.mark.parametrize(("name", "architecture"), [("llama", "deci"), ("qwen3", "openelm")])
def test_layers_of_different_sizes_are_refused_before_anything_is_read(
    name: str, architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = written(tmp_path, name, "3x1+17 4x2+96*3")
    monkeypatch.setattr(sources, "gguf_config", None)
    wanted = rf"^model .*layers differ in size \(llama.cpp's architecture '{architecture}'\), .* prunecast export RUN"
    with pytest.raises(ModelError, match=wanted) as raised:
        read(file.path)
    assert "\n" not in str(raised.value)


def test_layers_of_different_sizes_are_told_by_spec_validate_and_run(workplace: Workplace, tmp_path: Path) -> None:
    file, _ = written(tmp_path, "llama", "3x1+17 4x2+96*3")
    workplace.write_spec("again", {"model": {"source": str(file.path)}})
    for command in (("spec", "validate", "again.yaml"), ("run", "again.yaml"), ("run", "again.yaml", "--dry-run")):
        outcome = workplace.prunecast(*command)
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1), outcome
        assert "a GGUF file whose layers differ in size" in outcome.stderr


@pytest.mark.parametrize(
    ("name", "architecture", "problem"),
    [
        ("llama-own-head", "2x2+96*4", r"factors of the rotary frequencies \(rope_freqs\.weight\)"),
        ("qwen3", "2x1+96*4", "linear scaling of the rotary embedding by 2"),
        ("gemma2", "2x2+64*4", "attention scaled by the square root of 16, not 256"),
    ],
)
def test_what_transformers_ignores_is_refused(name: str, architecture: str, problem: str, tmp_path: Path) -> None:
    file, _ = written(tmp_path, name, architecture)
    with pytest.raises(ModelError, match=rf"^model .*: the GGUF file has {problem}, which transformers does not read"):
        read(file.path)


def test_biases_without_a_place_are_refused(tmp_path: Path) -> None:
    config = CONFIGS["mistral"]
    pruned = prune(config, "4x2+96*4")
    state = pruned.state | {"model.layers.1.mlp.down_proj.bias": torch.ones(64)}
    source = source_of(tmp_path / "model", config, byte_tokenizer())
    file = write_gguf(model_of(config, pruned, source, state), tmp_path / "biases.gguf", "f32")
    with pytest.raises(ModelError, match=r"the GGUF file has biases such as blk\.1\.ffn_down\.bias, which"):
        read(file.path)


def test_other_widths_and_soft_caps_are_refused(tmp_path: Path) -> None:
    file, _ = written(tmp_path, "gemma3", "2x2+64*12")
    content = {"num_attention_heads": 4, "hidden_size": 64, "head_dim": 16}
    check_reading(file.path, content, "tiny")
    with pytest.raises(ModelError, match="has heads of width 16, not 24, which"):
        check_reading(file.path, content | {"head_dim": 24}, "tiny")
    file, _ = written(tmp_path / "capped", "gemma2", "2x2+64*4")
    capped = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    check_reading(file.path, content | capped, "tiny")
    with pytest.raises(ModelError, match="has final_logit_softcapping 30, which"):
        check_reading(file.path, content | capped | {"final_logit_softcapping": 20.0}, "tiny")
