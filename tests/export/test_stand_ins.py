"""Attentions of zeros in place of removed ones: the same logits, and an attention in every layer."""

from typing import Any

import pytest
import torch
from pruned_families import CASES, prune
from transformers import BloomModel, LlamaModel

from prunecast.architecture.architecture import Architecture
from prunecast.export.parity import distance, generation_logits
from prunecast.export.sliced import SlicedFolder
from prunecast.export.stand_ins import stand_ins_note, vllm_support, with_stand_ins
from prunecast.testing.models import family_of

GONE = [case for case, (_, text) in CASES.items() if "0+" in text.replace("10+", "")]


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(1, 97, (2, 20), generator=torch.Generator().manual_seed(3))


def loaded(config: Any, state: Any, architecture: Architecture) -> Any:
    with SlicedFolder.written(config, family_of(config), state, architecture) as folder:
        return folder.load(torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("case", GONE)
def test_a_model_with_stand_ins_computes_the_same(case: str, ids: torch.Tensor) -> None:
    pruned = prune(*CASES[case])
    state, filled = with_stand_ins(pruned.config, family_of(pruned.config), pruned.state, pruned.architecture)
    assert all(layer.kv_groups and layer.query_heads for layer in filled.layers)
    with torch.inference_mode():
        model = loaded(pruned.config, state, filled)
        assert not [name for name, module in model.named_modules() if type(module).__name__ == "TokenCounter"]
        assert torch.equal(model(ids).logits, loaded(pruned.config, pruned.state, pruned.architecture)(ids).logits)
        assert distance(model(ids).logits, pruned.logits(ids)) < 1e-5
        assert distance(*generation_logits(model, ids)) < 1e-5


def test_stand_ins_have_the_dtype_of_the_weights_and_leave_the_others_alone() -> None:
    pruned = prune(*CASES["llama-mixed"])
    half = {name: weight.bfloat16() for name, weight in pruned.state.items()}
    state, filled = with_stand_ins(pruned.config, family_of(pruned.config), half, pruned.architecture)
    assert str(filled) == "1x1+20 3x1+0 2x2+48 4x2+7"
    added = state.keys() - half.keys()
    assert {name.split(".")[2] for name in added} == {"0"}
    assert state["model.layers.0.self_attn.k_proj.weight"].shape == (8, 32)
    assert not any(state[name].any() for name in added)
    assert {weight.dtype for weight in state.values()} == {torch.bfloat16}
    assert all(state[name] is weight for name, weight in half.items())


def test_a_model_with_all_attentions_stays_as_it_is() -> None:
    pruned = prune(*CASES["phi3-long"])
    state, filled = with_stand_ins(pruned.config, family_of(pruned.config), pruned.state, pruned.architecture)
    assert (state, filled) == (pruned.state, pruned.architecture)


@pytest.mark.parametrize(
    ("base", "written", "support"),
    [
        (LlamaModel, "2x2+8 1x1+0", "serves it with `--model-impl transformers"),
        (LlamaModel, "2x2+8 0+9", "does not serve it, as 1 layer has no attention; with the option `stand_ins`"),
        (BloomModel, "2x2+8", "does not serve it, as its attention does not go through"),
        (None, "2x2+8", "does not serve it, as transformers has no class of this model without its output head"),
    ],
)
def test_the_card_says_whether_vllm_serves_it(base: Any, written: str, support: str) -> None:
    assert vllm_support(base, Architecture.parse(written)).startswith(f"vLLM {support}")


def test_a_note_tells_of_stand_ins_where_there_are_some() -> None:
    removed, filled = Architecture.parse("0+8 0+9 2x2+8"), Architecture.parse("1x1+8 1x1+9 2x2+8")
    (note,) = stand_ins_note(removed, filled)
    assert note.startswith("2 layers have no attention; the folder has stand-ins")
    assert stand_ins_note(filled, filled) == ()
