"""Written files in llama.cpp: they load, and compute what transformers computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_models import CONFIGS, CONTEXT, byte_tokenizer, model_of, source_of, text, written
from pruned_families import prune

from prunecast.errors import ExportError
from prunecast.export.gguf.verify import engine_version, verify_gguf
from prunecast.export.gguf.write import GgufFile, write_gguf
from prunecast.plugins.exporter import Parity, Reference

pytestmark = pytest.mark.skipif(engine_version() is None, reason="xllamacpp, which brings llama.cpp, is not installed")

GELU = 0.02
"""Allowed difference of log-probabilities where llama.cpp looks the activation up in a table of 16 bits."""

CASES = {
    "llama-dense": ("llama", "4x2+96*4", "llama"),
    "llama-uniform": ("llama", "3x1+40*4", "llama"),
    "llama-depth": ("llama", "4x2+96 0+0 4x2+96*2", "llama"),
    "llama-middle-attention-gone": ("llama", "4x2+96 0+64 3x1+40 1x2+96", "deci"),
    "llama-last-attention-gone": ("llama", "4x2+96*3 0+32", "deci"),
    "llama-first-attention-gone": ("llama", "0+96 4x2+96*3", "deci"),
    "llama-mlp-gone": ("llama", "4x2+0 2x2+96 4x1+0*2", "deci"),
    "llama-both-gone-and-next-without-attention": ("llama", "0+0 0+50 2x1+96 4x2+0", "deci"),
    "llama-own-head": ("llama-own-head", "3x1+17 4x2+96*2 1x1+96", "deci"),
    "llama-own-head-uniform": ("llama-own-head", "2x2+96*4", "llama"),
    "llama-biases": ("llama-biases", "3x1+17 0+96 4x2+96 1x1+0", "deci"),
    "llama-biases-uniform": ("llama-biases", "2x1+96*4", "llama"),
    "mistral": ("mistral", "0+96 4x2+0 0+64 3x1+40", "deci"),
    "qwen2-queries-as-wide-as-the-stream": ("qwen2", "4x1+64*4", "qwen2"),
    "qwen2-uniform": ("qwen2", "3x1+64*4", "deci"),
    "qwen2": ("qwen2", "0+96 4x2+0 0+64 3x1+40", "deci"),
    "qwen3-uniform": ("qwen3", "2x1+96*4", "qwen3"),
    "qwen3": ("qwen3", "0+96 4x2+0 0+0 3x1+40", "openelm"),
    "qwen3-own-head": ("qwen3-own-head", "2x1+96*3 0+0", "qwen3"),
    "gemma": ("gemma", "2x2+64*3 0+0", "gemma"),
    "gemma2": ("gemma2", "0+0*2 2x2+64*2", "gemma2"),
    "gemma3": ("gemma3", "2x2+64*6 0+0*6", "gemma3"),
}


def parity(file: GgufFile, pruned: Any) -> Parity:
    tokenizer = byte_tokenizer()
    reference = Reference(pruned.logits, tuple(text()), (), CONTEXT)
    encode = lambda words: tokenizer(words, add_special_tokens=False)["input_ids"]  # noqa: E731
    return verify_gguf(file.path, file.dtype, reference, encode)


@pytest.mark.parametrize("case", CASES)
def test_a_pruned_model_computes_what_transformers_computes(case: str, tmp_path: Path) -> None:
    name, architecture, target = CASES[case]
    file, pruned = written(tmp_path, name, architecture)
    found = parity(file, pruned)
    assert file.architecture == target
    assert int(found.compared.split()[-2]) > 50
    assert found.max_difference < (GELU if "gemma" in name else 1e-4)
    assert found.perplexity == pytest.approx(found.reference_perplexity, rel=1e-3)
    assert found.greedy_equal == found.greedy
    assert not found.notes


def test_biases_that_compensation_adds_to_some_layers_are_computed_with(tmp_path: Path) -> None:
    config = CONFIGS["qwen2"]
    pruned = prune(config, "4x1+64*4")
    for layer, name in ((1, "self_attn.o_proj"), (2, "mlp.down_proj")):
        bias = torch.linspace(-1, 1, config.hidden_size)
        pruned.zeroed.model.layers[layer].get_submodule(name).bias = torch.nn.Parameter(bias)
        pruned.state[f"model.layers.{layer}.{name}.bias"] = bias
    source = source_of(tmp_path / "model", config, byte_tokenizer())
    file = write_gguf(model_of(config, pruned, source), tmp_path / "biases.gguf", "f32")
    assert file.architecture == "deci"
    assert parity(file, pruned).max_difference < 1e-4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["llama", "llama-biases", "qwen2", "qwen3"])
def test_random_architectures_compute_what_transformers_computes(name: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, *name.encode()])
    layers = [f"{g}x{h}" if g else "0" for g, h in zip(rng.integers(0, 5, 4), rng.integers(1, 3, 4), strict=True)]
    widths = rng.choice([0, 1, 17, 32, 96], 4)
    architecture = " ".join(f"{layer}+{width}" for layer, width in zip(layers, widths, strict=True))
    file, pruned = written(tmp_path, name, architecture)
    assert parity(file, pruned).max_difference < 1e-4


@pytest.mark.parametrize("dtype", ["f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("case", ["llama-both-gone-and-next-without-attention", "qwen3", "gemma3"])
def test_other_number_formats_stay_near(case: str, dtype: Any, tmp_path: Path) -> None:
    name, architecture, _ = CASES[case]
    exact, _ = written(tmp_path, name, architecture)
    file, pruned = written(tmp_path, name, architecture, dtype, scale=0.15)
    found = parity(file, pruned)
    allowed = {"f16": 0.05, "bf16": 0.5, "q8_0": 0.5, "q4_0": 4}[dtype]
    assert 0 < found.max_difference < allowed
    assert file.bytes < 0.9 * exact.bytes


def test_a_file_with_one_wrong_projection_is_not_the_measured_model(tmp_path: Path) -> None:
    file, pruned = written(tmp_path, "llama", "4x2+96*4", change="model.layers.1.self_attn.k_proj.weight")
    with pytest.raises(ExportError, match=r"^llama\.gguf in llama\.cpp is not the measured model: log-prob.* allowed"):
        parity(file, pruned)


def test_a_damaged_file_does_not_run(tmp_path: Path) -> None:
    file, pruned = written(tmp_path, "llama", "4x2+96*4")
    file.path.write_bytes(file.path.read_bytes()[:-5000])
    with pytest.raises(ExportError, match=r"^llama\.gguf does not run in llama\.cpp: .*(bounds|corrupted|failed)"):
        parity(file, pruned)


def test_all_configs_are_tried() -> None:
    assert {name for name, _, _ in CASES.values()} == set(CONFIGS)
