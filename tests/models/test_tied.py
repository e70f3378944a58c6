"""Tied embeddings: decided by the stored weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_models import Tensors, edit_config, edit_weights, logits_of
from transformers import AutoModelForCausalLM

from prunecast.models.source import resolve_source
from prunecast.testing.models import shape_of

EMBEDDINGS = 97 * 64
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def with_head(weights: Tensors) -> Tensors:
    return weights | {HEAD: weights[EMBED].flip(0)}


def sizes(folder: Path) -> tuple[bool, int, int]:
    """Tied or not, parameters of embeddings and head, and all parameters, by the config as loaded."""
    config = resolve_source(str(folder)).config()
    shape = shape_of(config)
    return config.tie_word_embeddings, shape.embeddings, int(shape.count([shape.dense])[0])


def test_a_head_of_its_own_is_counted_and_loaded(saved: Path) -> None:
    tied, embeddings, parameters = sizes(saved)
    assert (tied, embeddings) == (True, EMBEDDINGS)
    edit_weights(saved, with_head)
    assert sizes(saved) == (False, 2 * EMBEDDINGS, parameters + EMBEDDINGS)
    model = resolve_source(str(saved)).load(torch.float32)
    assert model.num_parameters() == parameters + EMBEDDINGS
    assert torch.equal(logits_of(model), logits_of(AutoModelForCausalLM.from_pretrained(saved)))


def test_a_copy_of_the_embeddings_stays_tied(saved: Path) -> None:
    before = sizes(saved)
    edit_weights(saved, lambda weights: weights | {HEAD: weights[EMBED].clone()})
    assert sizes(saved) == before
    assert resolve_source(str(saved)).load(torch.float32).num_parameters() == before[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_does_not_decide(saved: Path, dtype: torch.dtype) -> None:
    """The difference disappears in bfloat16, where transformers by itself would tie the two."""
    edit_weights(saved, lambda weights: weights | {HEAD: weights[EMBED] * (1 + 1e-6)})
    assert sizes(saved)[:2] == (False, 2 * EMBEDDINGS)
    model = resolve_source(str(saved)).load(dtype)
    assert model.lm_head.weight is not model.model.embed_tokens.weight


def test_embeddings_in_another_dtype_than_their_copy_stay_tied(saved: Path) -> None:
    edit_weights(saved, lambda w: w | {EMBED: w[EMBED].bfloat16(), HEAD: w[EMBED].bfloat16().float()})
    assert sizes(saved)[0]


def test_only_the_head_is_stored(saved: Path) -> None:
    edit_weights(saved, lambda weights: {HEAD if name == EMBED else name: w for name, w in weights.items()})
    tied, embeddings, parameters = sizes(saved)
    assert (tied, embeddings) == (True, EMBEDDINGS)
    assert resolve_source(str(saved)).load(torch.float32).num_parameters() == parameters


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_other_names_of_the_embeddings_are_found(
    prefix: str, cache: Path, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    """GPT-2 has its own, which checkpoints also hold without their prefix."""
    folder = tmp_path / "gpt2"
    tiny_model("gpt2", n_head=4, n_embd=64, n_layer=3).save_pretrained(folder)
    assert sizes(folder)[0]
    edit_weights(
        folder,
        lambda weights: (
            {prefix + name.removeprefix("transformer."): w for name, w in weights.items()}
            | {HEAD: weights["transformer.wte.weight"].flip(0)}
        ),
    )
    assert not sizes(folder)[0]
    expected = logits_of(AutoModelForCausalLM.from_pretrained(folder))
    assert torch.equal(logits_of(resolve_source(str(folder)).load(torch.float32)), expected)


def test_shards_are_compared_too(cache: Path, tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "many"
    tiny_model("llama", tie_word_embeddings=False).save_pretrained(folder, max_shard_size="20KB")
    edit_config(folder, tie_word_embeddings=True)
    assert not sizes(folder)[0]
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    (folder / index["weight_map"][HEAD]).unlink()
    assert resolve_source(str(folder)).config().tie_word_embeddings, "a missing file is told elsewhere"
