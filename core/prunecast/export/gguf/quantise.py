"""Number formats of the tensors of a GGUF file, by gguf-py's own quantisers."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunecast.errors import ExportError
from prunecast.export.gguf.plan import BLOCK, QUANTISED, Dtype

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDINGS = ("token_embd.weight", "output.weight")
"""Tensors that keep 8 bits where the others have 4, as in llama.cpp's own quantiser."""


def stored_dtype(name: str, shape: tuple[int, ...], dtype: Dtype) -> Dtype:
    """Number format of one tensor of a file in ``dtype``.

    Vectors are in float32, and matrices whose rows do not divide into blocks are in float16 instead of quantised.
    """
    if len(shape) < 2:
        return "f32"
    if dtype in QUANTISED and shape[-1] % BLOCK:
        return "f16"
    return "q8_0" if dtype == "q4_0" and name in EMBEDDINGS else dtype


def stored(name: str, tensor: "Tensor", dtype: Dtype) -> tuple[NDArray[Any], Any]:
    """The stored form of a float32 tensor, and its ``gguf.GGMLQuantizationType``.

    Raises:
        ExportError: a number is not finite in that format.
    """
    import gguf

    kind = gguf.GGMLQuantizationType[stored_dtype(name, tuple(tensor.shape), dtype).upper()]
    values = tensor.contiguous().numpy()
    half = kind != gguf.GGMLQuantizationType.BF16  # the scales of quantised blocks are halves, too
    limit = float(np.finfo(np.float16 if half else np.float32).max)
    largest = float(np.abs(values).max(initial=0.0))
    if kind != gguf.GGMLQuantizationType.F32 and not largest <= limit:
        raise ExportError(f"{name} has numbers up to {largest:.3g}, beyond those of {kind.name.lower()}: write bf16")
    return gguf.quants.quantize(values, kind), kind
