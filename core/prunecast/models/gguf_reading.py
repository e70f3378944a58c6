"""What transformers makes of the header of a GGUF file, compared with what llama.cpp computes by it.

transformers takes some values from a header and ignores others. Where the ignored ones make another model, the file is
refused, unless the config can be set right.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError
from prunecast.models.families.sizes import model_without_weights
from prunecast.models.gguf_files import gguf_parts
from prunecast.models.gguf_header import GgufHeader, gguf_header

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_SIZES_BY_LAYER = ("deci", "openelm")
"""Architectures of llama.cpp whose layers differ in size, in which prunecast writes pruned models, too."""

_ROTARY_FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
"""Tensors of factors of the rotary frequencies."""

_WIDE = {("gemma2", 46), ("gemma3", 62)}
"""Architectures and depths at which llama.cpp divides query times key by the square root of D / heads."""


def check_architecture(path: Path, name: str) -> None:
    """Raise ModelError if the layers of a ``.gguf`` file differ in size: transformers reads none of these."""
    header = gguf_header(path)
    if header is not None and header.architecture in _SIZES_BY_LAYER:
        raise ModelError(
            f"model {name}: a GGUF file whose layers differ in size (llama.cpp's architecture "
            f"{header.architecture!r}), which transformers does not read: name the model's folder in the format of "
            "transformers instead; of a model that prunecast wrote, prunecast export RUN FOLDER writes it"
        )


def set_head_width(config: "PreTrainedConfig", path: Path) -> None:
    """Give the config of a ``.gguf`` file the width of a head by its header, where transformers ignores that."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    header = gguf_header(path)
    if header is None or not hasattr(config, "head_dim"):
        return
    width, rotary = header.value("attention.key_length"), header.value("rope.dimension_count")
    mappings: Mapping[str, Any] = GGUF_CONFIG_MAPPING
    known = mappings.get(header.architecture, {})
    if width is not None and not known.get("attention.key_length") and rotary in (None, width):
        config.head_dim = int(width)


def check_reading(path: Path, content: Mapping[str, Any], name: str) -> None:
    """Compare a ``.gguf`` file with the config that is read from it.

    Args:
        path: the file, or the first of them.
        content: content of the config.
        name: name of the model, for messages.

    Raises:
        ModelError: the model of the config computes something else than llama.cpp does with the file.
    """
    headers = [header for header in map(gguf_header, gguf_parts(path)) if header is not None]
    problem = next((problem for header in headers[:1] for problem in _problems(header, content)), None)
    problem = problem or _problem_of_biases(headers, content)
    if problem:
        raise ModelError(
            f"model {name}: the GGUF file has {problem}, which transformers does not read from it: name the model's "
            "folder in the format of transformers, or its Hub id, instead"
        )


def _problems(header: GgufHeader, content: Mapping[str, Any]) -> Iterator[str]:
    """Each thing in the first header that a config does not have, in words."""
    heads, hidden = content.get("num_attention_heads"), content.get("hidden_size")
    width = header.value("attention.key_length")
    derived = content.get("head_dim") or (hidden // heads if hidden and heads else None)
    if width is not None and derived is not None and "d_kv" not in content and width != derived:
        yield f"heads of width {width}, not {derived}"
    scaling, factor = header.value("rope.scaling.type"), header.value("rope.scaling.factor") or 1.0
    read = (content.get("rope_parameters") or {}).get("rope_type", "default")
    if scaling not in (None, "none") and factor != 1 and read == "default":
        yield f"{scaling} scaling of the rotary embedding by {factor:g}"
    for factors in _ROTARY_FACTORS:
        if any(each != 1 for each in header.floats(factors)) and read == "default":
            yield f"factors of the rotary frequencies ({factors})"
    wanted = content.get("query_pre_attn_scalar")
    if wanted and heads and hidden:
        wide = (header.architecture, header.value("block_count")) in _WIDE
        scale = hidden // heads if wide else width or hidden // heads
        if wanted != scale:
            yield f"attention scaled by the square root of {scale}, not {wanted:g}"
    for entry in ("attn_logit_softcapping", "final_logit_softcapping"):
        capped = header.value(entry)
        if capped and not math.isclose(capped, content.get(entry) or math.inf, rel_tol=1e-6):
            yield f"{entry} {capped:g}"


def _problem_of_biases(headers: list[GgufHeader], content: Mapping[str, Any]) -> str | None:
    """Biases in the files that the model of a config has no place for, in words; None if it has a place for all."""
    from transformers import AutoConfig

    stored = {name: each.elements for header in headers for name, each in header.tensors.items()}
    biases = {name: elements for name, elements in stored.items() if name.endswith(".bias")}
    if not biases:
        return None
    model = model_without_weights(AutoConfig.for_model(**content))
    held = sum(tensor.numel() for name, tensor in model.named_parameters() if name.endswith(".bias"))
    return None if held == sum(biases.values()) else f"biases such as {next(iter(biases))}"
