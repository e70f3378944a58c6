"""Contents of GGUF files, and models that cannot be written."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf_models import CONFIGS, byte_tokenizer, model_of, source_of, written
from pruned_families import prune
from transformers import LlamaConfig

from prunecast.errors import ExportError
from prunecast.export.gguf.write import check_config, write_gguf
from prunecast.testing.models import shape_of


def contents(path: Path) -> tuple[dict, dict]:
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()}, {
        each.name: each for each in reader.tensors
    }


def test_sizes_are_arrays_where_layers_differ_and_numbers_where_they_do_not(tmp_path: Path) -> None:
    file, _ = written(tmp_path / "a", "llama", "4x2+96 0+64 3x1+40 1x2+0")
    fields, _ = contents(file.path)
    assert fields["deci.attention.head_count"] == [8, 0, 3, 2]
    assert fields["deci.attention.head_count_kv"] == [4, 0, 3, 1]
    assert fields["deci.feed_forward_length"] == [96, 64, 40, 32]
    file, _ = written(tmp_path / "b", "llama", "2x2+40*4")
    fields, tensors = contents(file.path)
    assert (fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]) == (4, 2)
    assert fields["llama.feed_forward_length"] == 40
    assert file.parameters == sum(int(np.prod(each.shape)) for each in tensors.values())
    assert file.bytes == file.path.stat().st_size


def test_matrices_are_in_the_format_asked_for_and_vectors_are_not(tmp_path: Path) -> None:
    file, _ = written(tmp_path, "llama", "3x1+17 4x2+96*3", "q4_0")
    kinds = {name: each.tensor_type.name for name, each in contents(file.path)[1].items()}
    assert kinds["blk.0.ffn_down.weight"] == kinds["blk.0.attn_q.weight"] == "Q4_0"
    assert kinds["token_embd.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["blk.0.attn_output.weight"] == "F16"  # its rows have 3 x 16 numbers
    assert any(note.startswith("in f16, as their rows are no multiple of 32: 1 tensors") for note in file.notes)


def test_a_bias_that_the_target_has_no_place_for_is_refused(tmp_path: Path) -> None:
    pruned = prune(CONFIGS["qwen3"], "4x2+96*4")
    state = pruned.state | {"model.layers.2.mlp.down_proj.bias": torch.ones(64)}
    source = source_of(tmp_path / "model", CONFIGS["qwen3"], byte_tokenizer())
    with pytest.raises(
        ExportError, match=r"^llama\.cpp's 'qwen3' has no place for model\.layers\.2\.mlp\.down_proj\.bi"
    ):
        write_gguf(model_of(CONFIGS["qwen3"], pruned, source, state), tmp_path / "x", "f16")
    assert not list(tmp_path.glob("x*"))


def test_numbers_beyond_a_format_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"^token_embd\.weight has numbers up to .*e\+0.*, beyond those of f16: write bf16"
    ):
        written(tmp_path, "llama", "4x2+96*4", "f16", scale=1e6)
    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hidden_act": "gelu"}, "computes silu in the MLP, the model gelu"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "the dynamic rotary embedding cannot be written for llama.cpp",
        ),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(changes: dict, problem: str, tmp_path: Path) -> None:
    config = LlamaConfig(**CONFIGS["llama"].to_dict() | changes)
    pruned = prune(config, "4x2+96*4")
    source = source_of(tmp_path / "model", config, byte_tokenizer())
    with pytest.raises(ExportError, match=problem):
        write_gguf(model_of(config, pruned, source), tmp_path / "x", "f32")
    with pytest.raises(ExportError, match=problem):
        check_config(config, shape_of(config))
