"""Stored weights that the model has no place for: left out where they do no harm, else refused."""

from pathlib import Path

import pytest
import torch
from saved_models import Tensors, edit_config, edit_weights, logits_of

from prunecast.errors import ModelError
from prunecast.models.source import resolve_source

D = 64

HARMLESS = {
    "value head of TRL": ["v_head.summary.weight", "v_head.summary.bias"],
    "head of a reward model": ["score.weight"],
    "rotary buffers": ["model.layers.0.self_attn.rotary_emb.cos_cached", "rotary_emb.inv_freq"],
    "layer for the token after the next": ["model.layers.3.eh_proj.weight", "model.layers.3.mlp.up_proj.weight"],
    "module for the token after the next": ["model.mtp.0.proj.weight", "mtp.norm.weight"],
    "medusa heads": ["medusa_head.0.0.linear.weight"],
}

HARMFUL = {
    "bias of a projection": "model.layers.0.self_attn.q_proj.bias",
    "norm of another family": "model.layers.1.self_attn.q_norm.weight",
    "one layer more": "model.layers.3.mlp.up_proj.weight",
    "bias of the head": "lm_head.bias",
    "module of the base model": "model.project_in.weight",
    "bare parameter": "logit_scale",
}


def with_extra(folder: Path, names: list[str]) -> None:
    def add(weights: Tensors) -> Tensors:
        return weights | {name: torch.ones(1, D) if name.endswith("weight") else torch.ones(D) for name in names}

    edit_weights(folder, add)


@pytest.mark.parametrize("names", HARMLESS.values(), ids=HARMLESS)
def test_weights_that_do_no_harm_are_left_out_with_a_note(saved: Path, names: list[str]) -> None:
    logits = logits_of(resolve_source(str(saved)).load(torch.float32))
    with_extra(saved, names)
    source = resolve_source(str(saved))
    left_out = [name for name in names if "inv_freq" not in name]  # transformers leaves these out by itself
    (note,) = source.check()
    assert f"left out {', '.join(sorted(left_out))}: the language model computes nothing with" in note
    assert torch.equal(logits_of(source.load(torch.float32)), logits)


@pytest.mark.parametrize("name", HARMFUL.values(), ids=HARMFUL)
def test_weights_that_the_model_would_need_are_refused_before_loading(saved: Path, name: str) -> None:
    with_extra(saved, [name])
    with pytest.raises(ModelError, match=f"do not fit its config .unexpected {name}") as caught:
        resolve_source(str(saved)).check()
    assert "\n" not in str(caught.value)


def test_bare_model_without_prefix_is_loaded_where_the_head_is_tied(saved: Path) -> None:
    logits = logits_of(resolve_source(str(saved)).load(torch.float32))
    edit_weights(saved, lambda weights: {name.removeprefix("model."): weight for name, weight in weights.items()})
    source = resolve_source(str(saved))
    assert source.check() == []
    assert torch.equal(logits_of(source.load(torch.float32)), logits)


def test_a_missing_head_is_an_error_that_names_the_two_ways_out(saved: Path) -> None:
    edit_config(saved, tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"missing lm_head.weight.*tie_word_embeddings: true"):
        resolve_source(str(saved)).check()


def test_names_of_a_wrapper_are_shown_beside_what_is_missing(saved: Path) -> None:
    edit_weights(saved, lambda weights: {f"module.{name}": weight for name, weight in weights.items()})
    with pytest.raises(ModelError, match=r"missing lm_head.weight and 29 more; unexpected module.model.embed_tokens"):
        resolve_source(str(saved)).check()


def test_weights_of_another_size_are_found_before_loading(saved: Path) -> None:
    edit_config(saved, intermediate_size=32)
    with pytest.raises(ModelError, match=r"mismatched model.layers.0.mlp.down_proj.weight and 8 more"):
        resolve_source(str(saved)).check()
