"""Quantised checkpoints: what the config states, what is stored, and whether transformers can dequantise it.

A quantised weight is stored as codes (integers, or floats of 8 or 4 bits) beside scales. Only numbers can be pruned,
measured and exported.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError, one_line
from prunecast.models.checkpoint import StoredTensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ENTRIES = ("quantization_config", "compression_config")
"""Keys of a config under which a quantisation is stated."""

_SIDE_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}
"""Files of other tools that state a quantisation, and the method of each."""

_NUMBERS = ("F64", "F32", "F16", "BF16")
_SMALL_FLOATS = ("F8", "F6", "F4", "float4", "float8")

_CODES = re.compile(
    r"\.(?:[qQ]_?weight|W_q|[qQ]zeros|g_idx|SCB|absmax|nested_absmax|quant_map|trellis|codebooks?|codes|scales"
    r"|weight_(?:packed|scale|scale_inv|scale_2|zero_point|shape|format|quantized|dequant)|weight\._(?:data|scale)"
    r"|weight\.quant_state\..*|\w+_(?:blocks|scales))$"
)
"""Names of tensors that only a quantised checkpoint has."""

_MASKS = re.compile(r"(?:^|\.)(?:bias|masked_bias|position_ids|\w*mask)$")
"""Names of integer buffers that plain checkpoints of older versions have."""

_ALWAYS_CODES = {
    "bitsandbytes",
    "gptq",
    "awq",
    "fp8",
    "fbgemm_fp8",
    "compressed-tensors",
    "mxfp4",
    "mxfp8",
    "nvfp4",
} | {*("auto-round", "hqq", "eetq", "aqlm", "vptq", "spqr", "quanto")}
"""Methods that change weights only as they are stored. With plain weights, an entry of theirs is a leftover."""

_ADVICE = "take the checkpoint that it was made from"


@dataclass(frozen=True)
class Quantisation:
    """The way in which quantised weights are to be loaded.

    Attributes:
        method: name of the method, as the config states it.
        entry: the config's entry to load them with.
        afterwards: True if the loaded model has to be dequantised, False if loading does it.
    """

    method: str
    entry: dict[str, Any]
    afterwards: bool

    def dequantised(self, model: Any, dtype: Any) -> "PreTrainedModel":
        """The loaded model with plain weights in ``dtype``."""
        plain: PreTrainedModel = model.dequantize(dtype=dtype) if self.afterwards else model
        return plain


def stated_quantisation(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Entry of a config, or of its text config, that states a quantisation; None if there is none."""
    nested = config.get("text_config")
    for owner in (config, nested if isinstance(nested, Mapping) else {}):
        for key in _ENTRIES:
            if entry := owner.get(key):
                return dict(entry) if isinstance(entry, Mapping) else {"quant_method": str(entry)}
    return None


def first_code(stored: Mapping[str, StoredTensor]) -> str | None:
    """Name of the first stored tensor that holds codes or belongs to them; None if all weights are numbers."""
    return next((name for name, tensor in stored.items() if _is_code(name, tensor)), None)


def _is_code(name: str, tensor: StoredTensor) -> bool:
    if _CODES.search(name):
        return True
    integers = tensor.dtype not in _NUMBERS and not tensor.dtype.startswith(_SMALL_FLOATS)
    return integers and len(tensor.shape) > 1 and _MASKS.search(name) is None


def quantisation_of(
    entry: dict[str, Any] | None, stored: Mapping[str, StoredTensor], folder: Path, name: str
) -> Quantisation | None:
    """The quantisation of a folder's weights; None if they are stored as numbers, whatever the config states.

    Args:
        entry: the config's entry, if it has one.
        stored: headers of the weights.
        folder: the folder.
        name: name of the model, for messages.

    Raises:
        ModelError: the weights are quantised, and transformers cannot dequantise them here; or the entry is of a method
            under which plain weights are not what the model computes with.
    """
    code = first_code(stored)
    method = _method(entry) if entry is not None else None
    if method is not None and code is None and any(t.dtype.startswith(_SMALL_FLOATS) for t in stored.values()):
        code = next(name for name, tensor in stored.items() if tensor.dtype.startswith(_SMALL_FLOATS))
    if code is None:
        if method is not None and method not in _ALWAYS_CODES:
            raise ModelError(
                f"model {name}: config.json says that it is quantised by {method}, which prunecast cannot undo: "
                f"{_ADVICE}, or delete quantization_config from config.json if its weights are plain numbers"
            )
        return None
    if entry is None or method is None:
        beside = next((f"{file} says {tool}" for file, tool in _SIDE_FILES.items() if (folder / file).is_file()), None)
        raise ModelError(
            f"model {name}: its weights are quantised ({code}), but config.json does not say how"
            f"{f' ({beside})' if beside else ''}: {_ADVICE}"
        )
    return _loadable(entry, method, code, stored, name)


def _method(entry: Mapping[str, Any]) -> str:
    if entry.get("load_in_8bit") or entry.get("load_in_4bit"):
        return "bitsandbytes"
    method = entry.get("quant_method")
    return str(method).lower() if method else "an unnamed method"


def _check_blocks(entry: Mapping[str, Any], stored: Mapping[str, StoredTensor], said: str) -> None:
    """Raise ModelError if a block of an fp8 weight is cut by its edge: transformers spreads scales evenly instead."""
    block = entry.get("weight_block_size")
    for name, tensor in stored.items():
        scale = stored.get(f"{name}_scale_inv")
        if not block or scale is None or len(scale.shape) != len(tensor.shape):
            continue
        for size, side, scales in zip(tensor.shape, block, scale.shape, strict=False):
            if scales > 1 and size % side:
                raise ModelError(
                    f"{said}, in blocks of {side} that do not divide the {size} of {name}, which transformers gets "
                    f"wrong: {_ADVICE}"
                )


def _loadable(
    entry: dict[str, Any], method: str, code: str, stored: Mapping[str, StoredTensor], name: str
) -> Quantisation:
    from transformers.quantizers.auto import (
        AUTO_QUANTIZATION_CONFIG_MAPPING,
        AUTO_QUANTIZER_MAPPING,
        AutoHfQuantizer,
    )
    from transformers.quantizers.base import HfQuantizer

    bits = "_4bit" if entry.get("load_in_4bit") else "_8bit"
    key = method + bits if method == "bitsandbytes" else method
    config: Any = AUTO_QUANTIZATION_CONFIG_MAPPING.get(key)
    quantizer: Any = AUTO_QUANTIZER_MAPPING.get(key)
    said = f"model {name}: its weights are quantised by {method} ({code})"
    if config is None or quantizer is None:
        raise ModelError(f"{said}, which transformers does not know: {_ADVICE}")
    while_loading = "dequantize" in inspect.signature(config).parameters
    if not while_loading and quantizer._dequantize is HfQuantizer._dequantize:
        raise ModelError(f"{said}, which transformers cannot turn back into numbers: {_ADVICE}")
    wanted = entry | ({"dequantize": True} if while_loading else {})
    _check_blocks(entry, stored, said)
    try:
        AutoHfQuantizer.from_config(dict(wanted), pre_quantized=True).validate_environment(device_map=None)
    # A missing package, a device without the kernels, an entry without what the method needs: any class of exception.
    except Exception as error:
        raise ModelError(f"{said}, and cannot be dequantised here ({one_line(error)}): {_ADVICE}") from error
    return Quantisation(method, wanted, not while_loading)


def leftover_note(entry: Mapping[str, Any]) -> str:
    """Words on an entry of a config whose weights are stored as numbers."""
    return f"config.json says quantised ({_method(entry)}), but the weights are plain numbers: the entry is ignored"
