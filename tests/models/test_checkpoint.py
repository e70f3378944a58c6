"""Folders of weights: which files are read, and damage that is named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from saved_models import edit_config, edit_weights, logits_of

from prunecast.errors import ModelError
from prunecast.models.checkpoint import stored_tensors, weight_files
from prunecast.models.source import resolve_source

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
PAGE = "<!DOCTYPE html><html><body>404 Not Found</body></html>"


def pickled(folder: Path, name: str = "pytorch_model.bin") -> Path:
    """Replace the safetensors file of a folder by a pickled one."""
    torch.save(load_file(folder / "model.safetensors"), folder / name)
    (folder / "model.safetensors").unlink()
    return folder


def test_pickled_weights_load_as_the_same_model(saved: Path) -> None:
    before = resolve_source(str(saved))
    logits, fingerprint = logits_of(before.load(torch.float32)), before.fingerprint()
    after = resolve_source(str(pickled(saved)))
    assert after.check() == []
    assert torch.equal(logits_of(after.load(torch.float32)), logits)
    assert after.fingerprint() == fingerprint


def test_shards_of_pickled_weights_are_read(saved: Path) -> None:
    logits = logits_of(resolve_source(str(saved)).load(torch.float32))
    weights = load_file(saved / "model.safetensors")
    halves = {"pytorch_model-1.bin": sorted(weights)[::2], "pytorch_model-2.bin": sorted(weights)[1::2]}
    for file, names in halves.items():
        torch.save({name: weights[name] for name in names}, saved / file)
    index = {"metadata": {}, "weight_map": {name: file for file, names in halves.items() for name in names}}
    (saved / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (saved / "model.safetensors").unlink()
    assert torch.equal(logits_of(resolve_source(str(saved)).load(torch.float32)), logits)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_holds_code_is_refused_and_not_run(saved: Path, tmp_path: Path) -> None:
    pickled(saved)
    weights = torch.load(saved / "pytorch_model.bin")
    torch.save(weights | {"model.norm.weight": Hostile(tmp_path / "ran")}, saved / "pytorch_model.bin")
    for read in (resolve_source(str(saved)).check, resolve_source(str(saved)).fingerprint):
        with pytest.raises(ModelError, match=r"cannot be read without running code .*save_pretrained") as caught:
            read()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "model.bf16.safetensors", "pytorch_model.fp16.bin"])
def test_a_variant_is_loaded_if_there_is_nothing_else(saved: Path, name: str) -> None:
    logits = logits_of(resolve_source(str(saved)).load(torch.float32))
    if name.endswith(".bin"):
        pickled(saved, name)
    else:
        (saved / "model.safetensors").rename(saved / name)
    source = resolve_source(str(saved))
    assert source.check() == []
    assert torch.equal(logits_of(source.load(torch.float32)), logits)


def test_shards_of_a_variant_are_loaded(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB", variant="fp16")
    found = weight_files(tmp_path / "many")
    assert (found.variant, len(found.files) > 1) == ("fp16", True)
    source = resolve_source(str(tmp_path / "many"))
    assert torch.equal(logits_of(source.load(torch.float32)), logits_of(model))


def test_the_usual_file_comes_before_a_variant(saved: Path) -> None:
    other = {name: tensor * 2 for name, tensor in load_file(saved / "model.safetensors").items()}
    save_file(other, saved / "model.fp16.safetensors", {"format": "pt"})
    assert [file.name for file in weight_files(saved).files] == ["model.safetensors"]


def test_several_variants_are_named(saved: Path) -> None:
    shutil.copy(saved / "model.safetensors", saved / "model.fp16.safetensors")
    (saved / "model.safetensors").rename(saved / "model.bf16.safetensors")
    with pytest.raises(ModelError, match=r"as bf16 and as fp16, and none is named model.safetensors"):
        weight_files(saved)


def test_weights_that_the_config_names_are_the_ones_that_count(saved: Path) -> None:
    """transformers loads them in place of model.safetensors, so the fingerprint has to be of them."""
    before = resolve_source(str(saved))
    logits, fingerprint = logits_of(before.load(torch.float32)), before.fingerprint()
    other = {name: tensor + 1 for name, tensor in load_file(saved / "model.safetensors").items()}
    save_file(other, saved / "other.safetensors", {"format": "pt"})
    edit_config(saved, transformers_weights="other.safetensors")
    after = resolve_source(str(saved))
    assert after.fingerprint() != fingerprint
    assert not torch.equal(logits_of(after.load(torch.float32)), logits)
    weight = stored_tensors(weight_files(saved))
    assert set(weight) == set(other)


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ("model-00001-of-00002.safetensors", "model.safetensors.index.json is missing"),
        ("tiny.Q8_0.gguf", "but tiny.Q8_0.gguf: name that file"),
        ("tf_model.h5", "but tf_model.h5, which transformers does not load"),
    ],
)
def test_what_stands_in_place_of_weights_is_named(saved: Path, present: str, words: str) -> None:
    (saved / "model.safetensors").rename(saved / present)
    with pytest.raises(ModelError, match=words):
        resolve_source(str(saved)).check()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize(("content", "words"), [(POINTER, "git lfs pull"), (PAGE, "an error page was saved")])
def test_pointers_and_error_pages_are_named(saved: Path, name: str, content: str, words: str) -> None:
    (saved / name).write_text(content)
    with pytest.raises(ModelError, match=words) as caught:
        resolve_source(str(saved)).check()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_rest_of_a_file_that_was_cut_off_is_counted(saved: Path) -> None:
    file = saved / "model.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=f"cut off: {size - 1000:,} of {size:,} bytes"):
        resolve_source(str(saved)).check()


def test_an_index_that_leads_out_of_the_folder_is_refused(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved.parent / "elsewhere.safetensors")
    index = {"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="outside the folder"):
        weight_files(saved)


def test_integer_buffers_of_older_versions_are_no_codes(saved: Path) -> None:
    mask = torch.ones(1, 1, 8, 8, dtype=torch.uint8).tril()
    edit_weights(saved, lambda weights: weights | {"model.layers.0.self_attn.masked_bias": mask})
    source = resolve_source(str(saved))
    (note,) = source.check()
    assert "left out model.layers.0.self_attn.masked_bias:" in note
    source.load(torch.float32)
