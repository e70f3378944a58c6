"""Rotary embeddings in GGUF files: fields, and factors of single frequencies."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunecast.errors import ExportError
from prunecast.export.gguf.targets import Target

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig


def rope_fields(config: "PreTrainedConfig") -> dict[str, float | str]:
    """Values of the fields ``rope.*`` of a model.

    Raises:
        ExportError: llama.cpp computes no such embedding for these families.
    """
    whole, sliding = _parameters(config)
    fields: dict[str, float | str] = {"freq_base": float(whole["rope_theta"])}
    if whole["rope_type"] == "linear":
        fields |= {"scaling.type": "linear", "scaling.factor": float(whole["factor"])}
    if sliding is not None:
        fields["freq_base_swa"] = float(sliding["rope_theta"])
    return fields


def frequency_factors(config: "PreTrainedConfig", target: Target) -> "Tensor | None":
    """Divisor of each frequency of the rotary embedding, float32 of shape (head_dim / 2,); None if none is divided.

    Raises:
        ExportError: the target reads no such factors, and the model needs them.
    """
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    whole, _ = _parameters(config)
    if whole["rope_type"] != "llama3":
        return None
    if not target.rope_factors:
        raise _refused("llama3", target.name)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    positions = torch.arange(len(frequencies), dtype=torch.float64) / len(frequencies)
    unscaled = torch.pow(float(whole["rope_theta"]), -positions)
    return (unscaled / frequencies.double()).float()


def _parameters(config: "PreTrainedConfig") -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """Parameters of the layers that see the whole context, and of layers with a window if theirs differ, else None."""
    untyped: Any = config
    rope = untyped.rope_parameters
    whole, sliding = (rope["full_attention"], rope["sliding_attention"]) if "full_attention" in rope else (rope, None)
    if whole["rope_type"] not in ("default", "linear", "llama3"):
        raise _refused(whole["rope_type"], "llama.cpp")
    if sliding is not None and sliding["rope_type"] != "default":
        raise _refused(f"{sliding['rope_type']} of windows", "llama.cpp")
    if any(part.get("partial_rotary_factor", 1.0) != 1.0 for part in (whole, sliding or {})):
        raise _refused("partial", "llama.cpp")
    return whole, sliding


def _refused(kind: str, engine: str) -> ExportError:
    return ExportError(
        f"the {kind} rotary embedding cannot be written for {engine}: choose a model with the default, a linear or, of "
        "Llama, the llama3 one"
    )
