"""Quantised checkpoints: numbers, or an error before anything is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_models import Tensors, edit_config, edit_weights, logits_of

from prunecast.errors import ModelError
from prunecast.models.families.layer_parts import layers_of
from prunecast.models.source import resolve_source
from prunecast.testing.models import family_of

BLOCK = 16
UP = "model.layers.0.mlp.up_proj.weight"

Change = Callable[[Tensors], Tensors]


def projections(weights: Tensors) -> list[str]:
    return [name for name in weights if name.endswith("_proj.weight")]


def fp8(weights: Tensors) -> Tensors:
    """Projections in 8-bit floats, with a scale a block that differs from block to block."""
    codes: Tensors = {}
    for name in projections(weights):
        rows, columns = (-(-size // BLOCK) for size in weights[name].shape)
        scales = torch.linspace(0.5, 2, rows * columns).view(rows, columns)
        codes |= {name: weights[name].to(torch.float8_e4m3fn), f"{name}_scale_inv": scales}
    return weights | codes


def gptq(weights: Tensors) -> Tensors:
    kept = {name: weight for name, weight in weights.items() if name not in projections(weights)}
    for name in projections(weights):
        outputs, inputs = weights[name].shape
        stem = name.removesuffix("weight")
        kept |= {
            f"{stem}qweight": torch.zeros(inputs // 8, outputs, dtype=torch.int32),
            f"{stem}scales": torch.ones(inputs // 8, outputs, dtype=torch.float16),
        }
    return kept


def integers(weights: Tensors) -> Tensors:
    return weights | {name: (weights[name] * 100).to(torch.int8) for name in projections(weights)}


def packed(weights: Tensors) -> Tensors:
    stored = {name: weight for name, weight in weights.items() if name != UP}
    return stored | {f"{UP}_packed": torch.zeros(32, 8, dtype=torch.int32), f"{UP}_scale": torch.ones(32, 1)}


def blocks(weights: Tensors) -> Tensors:
    return weights | {"model.layers.0.mlp.experts.up_blocks": torch.zeros(2, 4, 16, dtype=torch.uint8)}


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}


def dequantised(weights: Tensors, name: str) -> torch.Tensor:
    scales = weights[f"{name}_scale_inv"].repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    codes = weights[name].float()
    return codes * scales[: codes.shape[0], : codes.shape[1]]


@pytest.fixture
def saved(cache: Path, tiny_model: Callable[..., Any], tmp_path: Path) -> Path:
    """Folder of a tiny Llama whose sizes are multiples of the block."""
    tiny_model("llama", intermediate_size=2 * BLOCK).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_fp8_becomes_numbers_in_plain_projections(saved: Path) -> None:
    stored: Tensors = {}
    edit_weights(saved, lambda weights: stored.update(fp8(weights)) or dict(stored))
    edit_config(saved, quantization_config=FP8)
    source = resolve_source(str(saved))
    assert source.check() == []
    assert not hasattr(source.config(), "quantization_config")
    model = source.load(torch.float32)
    for name in projections(stored):
        found = model.get_parameter(name)
        torch.testing.assert_close(found, dequantised(stored, name), rtol=0, atol=0)
    assert len(list(layers_of(model, family_of(model.config)))) == 3, "all projections are plain"


def test_modules_that_fp8_leaves_alone_are_loaded_as_they_are(saved: Path) -> None:
    """Options of the loading must not displace the checkpoint's own list."""
    stored: Tensors = {}

    def partly(weights: Tensors) -> Tensors:
        stored.update(fp8(weights) | {UP: weights[UP]})
        del stored[f"{UP}_scale_inv"]
        return dict(stored)

    edit_weights(saved, partly)
    edit_config(saved, quantization_config=FP8 | {"modules_to_not_convert": [UP.removesuffix(".weight"), "lm_head"]})
    model = resolve_source(str(saved)).load(torch.float32)
    assert torch.equal(model.get_parameter(UP), stored[UP])
    other = UP.replace("up_proj", "gate_proj")
    assert torch.equal(model.get_parameter(other), dequantised(stored, other))


def test_blocks_that_the_edge_cuts_are_refused(saved: Path, tiny_model: Callable[..., Any]) -> None:
    """transformers takes 24 rows with two scales for blocks of 12, whatever the size of a block is."""
    tiny_model("llama", intermediate_size=24).save_pretrained(saved)
    edit_weights(saved, fp8)
    edit_config(saved, quantization_config=FP8)
    with pytest.raises(ModelError, match=r"blocks of 16 that do not divide the 24 of model.layers.0.mlp.\w+.weight"):
        resolve_source(str(saved)).check()


def test_floats_of_8_bits_without_scales_are_numbers(saved: Path) -> None:
    edit_weights(saved, lambda w: w | {name: w[name].to(torch.float8_e5m2) for name in projections(w)})
    model = resolve_source(str(saved)).load(torch.float32)
    weight = model.get_parameter(UP)
    assert torch.equal(weight, weight.to(torch.float8_e5m2).float())
    assert weight.abs().max() > 0.3


REFUSED: dict[str, tuple[Change, dict[str, Any] | None, str]] = {
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 8}, "by gptq .*cannot turn back into numbers"),
    "awq": (gptq, {"quant_method": "awq", "bits": 4, "group_size": 8}, "by awq .*cannot turn back into numbers"),
    "unknown": (gptq, {"quant_method": "exl9"}, "by exl9 .*transformers does not know"),
    "unnamed": (gptq, {"bits": 4}, "by an unnamed method"),
    "gptq, no entry": (gptq, None, "does not say how"),
    "integers under the usual names": (integers, None, "are quantised .* does not say how"),
    "blocks of 4 bits": (blocks, None, "are quantised .*up_blocks"),
    "older key of compressed-tensors": (packed, None, "are quantised .*up_proj.weight_packed"),
    "unknown over plain weights": (dict, {"quant_method": "exl2", "bits": 4.0}, "quantised by exl2, which prunecast"),
    "quantised as it runs": (dict, {"quant_method": "bitnet"}, "quantised by bitnet, which prunecast cannot undo"),
}


@pytest.mark.parametrize(("change", "entry", "words"), REFUSED.values(), ids=REFUSED)
def test_codes_are_refused_before_anything_is_read(
    saved: Path, change: Change, entry: dict[str, Any] | None, words: str
) -> None:
    edit_weights(saved, change)
    if entry is not None:
        edit_config(saved, quantization_config=entry)
    for read in (resolve_source(str(saved)).check, lambda: resolve_source(str(saved)).load(torch.float32)):
        with pytest.raises(ModelError, match=words) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert "take the checkpoint that it was made from" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "change", "words"),
    [
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, integers, "by bitsandbytes .*requires bitsandbytes"),
        (
            {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}},
            packed,
            "by compressed-tensors .*compressed-tensors>=",
        ),
    ],
)
def test_a_missing_package_is_told_before_anything_is_read(
    saved: Path, entry: dict[str, Any], change: Change, words: str
) -> None:
    import importlib.util

    if importlib.util.find_spec(entry["quant_method"].replace("-", "_")):
        pytest.skip("it is installed")
    edit_weights(saved, change)
    edit_config(saved, quantization_config=entry)
    with pytest.raises(ModelError, match=words) as caught:
        resolve_source(str(saved)).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "said"), [("quantize_config.json", "says gptq"), ("hf_quant_config.json", "says modelopt")]
)
def test_a_file_of_another_tool_that_states_the_method_is_named(saved: Path, file: str, said: str) -> None:
    edit_weights(saved, gptq)
    (saved / file).write_text("{}")
    with pytest.raises(ModelError, match=f"{file} {said}"):
        resolve_source(str(saved)).check()


@pytest.mark.parametrize(
    "entry",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"load_in_8bit": True},
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "mxfp4"},
        {"quant_method": "compressed-tensors", "format": "dense"},
    ],
)
def test_an_entry_over_plain_weights_is_ignored_with_a_note(saved: Path, entry: dict[str, Any]) -> None:
    logits = logits_of(resolve_source(str(saved)).load(torch.float32))
    edit_config(saved, quantization_config=entry)
    source = resolve_source(str(saved))
    (note,) = source.check()
    assert f"({entry.get('quant_method', 'bitsandbytes')}), but the weights are plain numbers" in note
    assert not hasattr(source.config(), "quantization_config")
    assert torch.equal(logits_of(source.load(torch.float32)), logits)


@pytest.mark.parametrize("bits", ["load_in_8bit", "load_in_4bit"])
def test_bitsandbytes_becomes_numbers_in_plain_projections(
    cache: Path, tiny_model: Callable[..., Any], tmp_path: Path, bits: str
) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dense = tiny_model("llama", intermediate_size=64)
    dense.save_pretrained(tmp_path / "dense")
    wanted = BitsAndBytesConfig(**{bits: True})
    quantised = AutoModelForCausalLM.from_pretrained(tmp_path / "dense", quantization_config=wanted, device_map="cpu")
    quantised.save_pretrained(tmp_path / "codes")
    source = resolve_source(str(tmp_path / "codes"))
    assert source.check() == []
    model = source.load(torch.float32)
    assert len(list(layers_of(model, family_of(model.config)))) == 3
    apart = (model.get_parameter(UP) - dense.get_parameter(UP)).norm() / dense.get_parameter(UP).norm()
    assert 0 < apart < (0.02 if bits == "load_in_8bit" else 0.15)
