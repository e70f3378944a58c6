"""Which architectures GGUF can express, and what stands in for what."""

from dataclasses import replace

import pytest
from gguf_models import CONFIGS

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import ExportError
from prunecast.export.gguf.plan import limits_of, plan
from prunecast.testing.models import shape_of


def planned(name: str, architecture: str, dtype: str = "f16"):
    return plan(shape_of(CONFIGS[name]), Architecture.parse(architecture), dtype)


def limits(name: str, dtype: str = "f16"):
    return limits_of(shape_of(CONFIGS[name]), dtype)


def test_layers_that_keep_nothing_are_left_out() -> None:
    found = planned("llama", "4x2+96 0+0 4x2+96*2")
    assert [layer.index for layer in found.layers] == [0, 2, 3]
    assert found.notes == ("layer 1: left out, as they keep nothing (the file has 3 layers)",)


def test_the_first_layer_of_the_file_has_an_attention_of_zeros_in_place_of_none() -> None:
    found = planned("llama", "0+0 0+50 0+96 4x2+96")
    assert [layer.written for layer in found.layers] == [Layer(1, 1, 50), Layer(0, 0, 96), Layer(4, 2, 96)]
    assert [layer.kept for layer in found.layers] == [Layer(0, 0, 50), Layer(0, 0, 96), Layer(4, 2, 96)]


def test_where_no_layer_can_do_without_attention_all_have_one() -> None:
    found = planned("qwen3", "0+50 0+96 4x2+0 4x2+96")
    assert [layer.written for layer in found.layers] == [
        Layer(1, 1, 50),
        Layer(1, 1, 96),
        Layer(4, 2, 32),
        Layer(4, 2, 96),
    ]
    assert len(found.notes) == 2


def test_quantised_mlps_are_padded_to_blocks() -> None:
    found = planned("llama", "4x2+96*2 4x2+33 4x2+1", "q8_0")
    assert [layer.written.mlp_width for layer in found.layers] == [96, 96, 64, 32]
    assert found.notes == ("layers 2, 3: the MLP is padded with channels of zeros to a multiple of 32",)
    assert planned("llama", "4x2+96*2 4x2+33 4x2+1").notes == ()


def test_widths_of_the_same_block_are_alike_when_quantised() -> None:
    assert planned("gemma", "4x2+90 4x2+96 4x2+70 4x2+65", "q4_0").target.name == "gemma"
    with pytest.raises(ExportError):
        planned("gemma", "4x2+90 4x2+96 4x2+70 4x2+65")


@pytest.mark.parametrize(
    ("name", "architecture", "problem"),
    [
        ("llama", "0+0*4", "keeps no layer"),
        ("gemma", "4x2+96*3 4x2+64", "same sizes in all layers, this architecture has 2 different ones"),
        ("qwen3-own-head", "4x2+96*3 4x2+64", "'openelm', needed for qwen3 .* has no output embedding of its own"),
        ("gemma2", "0+0 4x2+96*3", "layer 1 sees the whole context, llama.cpp's 'gemma2' would give it a sliding"),
        ("gemma3", "4x2+96*5 0+0 4x2+96*6", "layer 6 sees a sliding window, .* in runs of 6"),
    ],
)
def test_what_cannot_be_expressed_is_said_in_one_line(name: str, architecture: str, problem: str) -> None:
    with pytest.raises(ExportError, match=problem) as raised:
        planned(name, architecture)
    assert "\n" not in str(raised.value)
    assert limits(name).problem(Architecture.parse(architecture)) == str(raised.value)


def test_limits_tell_what_is_possible_without_weights() -> None:
    assert not limits("llama").alike
    assert limits("gemma").alike
    assert limits("qwen3-own-head").alike
    assert not limits("qwen3").alike
    architecture = Architecture.parse("0+96 4x2+0 0+64 3x1+40")
    assert limits("llama").problem(architecture) is None
    assert len(planned("llama", str(architecture)).notes) == 2


@pytest.mark.parametrize(
    ("name", "biases"),
    [("llama", {"attention", "mlp"}), ("qwen2", {"attention", "mlp"}), ("qwen3", set()), ("gemma", set())],
)
def test_limits_tell_which_outputs_may_have_a_bias(name: str, biases: set[str]) -> None:
    assert limits(name).biases == biases


def test_a_form_with_a_place_for_a_bias_is_taken() -> None:
    shape, alike = shape_of(CONFIGS["qwen2"]), Architecture.parse("4x1+64*4")
    names = [plan(shape, alike, "f16", biased).target.name for biased in ((), ("mlp",), ("attention",))]
    assert names == ["qwen2", "deci", "deci"]
    assert plan(shape_of(CONFIGS["llama"]), alike, "f16", ("mlp",)).target.name == "llama"


def test_sliding_windows_of_other_families_are_refused() -> None:
    shape = shape_of(CONFIGS["mistral"])
    layers = tuple(replace(layer, window=16) for layer in shape.layers)
    with pytest.raises(ExportError, match=r"layer 0 sees a sliding window, .* choose another target"):
        limits_of(replace(shape, layers=layers), "f16")


def test_other_families_are_refused_by_name() -> None:
    with pytest.raises(ExportError, match=r"^family 'opt' cannot be written as GGUF.*available: llama"):
        limits_of(replace(shape_of(CONFIGS["llama"]), family="opt"), "f16")
