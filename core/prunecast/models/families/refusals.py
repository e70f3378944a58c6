"""Kinds of models that cannot be described as a family, told by their config and by the names of their parameters."""

import re
from typing import TYPE_CHECKING

from prunecast.errors import ModelError, one_line
from prunecast.models.families.sizes import model_without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_SIGNS = {
    "experts": r"experts?\b|\brouter\b|moe\b|expert_bias",
    "latent attention": r"kv_a_|kv_b_|q_a_proj",
    "state space or linear attention layers": (
        r"A_log|dt_bias|\bmamba|time_(mix|decay|first|maa)|linear_attn|[if]gate_preact"
    ),
    "recurrent blocks": r"rg_lru|recurrent|[LH]_module",
    "short convolutions": r"\w*conv\w*\.(weight|static_weight|bias)$|conv1d",
    "cross attention": r"cross_?attn|cross_?attention|encoder_attn",
    "attention sinks": r"\bsinks?(_proj)?\b",
    "differential attention": r"lambda_[qk]\d",
    "embeddings for each layer": r"per_layer",
}
"""What there is besides attention and MLP, with the names of its parameters in the layers."""

_FIELDS = {
    "num_kv_shared_layers": "keys and values shared between layers",
    "hidden_size_per_layer_input": "embeddings for each layer",
}
"""The same, with a field of the config that is neither None nor 0."""


def check_describable(config: "PreTrainedConfig") -> None:
    """Raise ModelError if a config is not that of a decoder of attention and MLP layers; it says what it has.

    The model is made on the meta device.
    """
    if reason := what_it_is(config):
        raise refusal(config, reason)


def what_it_is(config: "PreTrainedConfig") -> str | None:
    """What a model is or has besides a decoder's layers of attention and MLP, as a clause; None if it is only that."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "transformers has no causal language model for its config"
    try:
        text = config.get_text_config()
    except ValueError as error:
        return f"it has several text models ({one_line(error)})"
    if text is not config:
        taken = "take its text model" if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else "its text model has no class"
        return f"it is multimodal; {taken}, of type {text.model_type!r}"
    if others := [name for name in config.sub_configs if re.search("vision|audio|image", name)]:
        return f"it is multimodal ({others[0]})"
    if config.is_encoder_decoder:
        return "it is an encoder with a decoder"
    return _parts_of(config)


def _parts_of(config: "PreTrainedConfig") -> str | None:
    try:
        model = model_without_weights(config)
    # Classes of transformers check their configs in their own ways.
    except Exception as error:  # noqa: BLE001
        return f"transformers cannot make its model ({one_line(error)})"
    found = {what: name for name, what in _FIELDS.items() if getattr(config, name, None)} | _signs(model)
    return "it has " + ", and ".join(f"{what} ({name})" for what, name in found.items()) if found else None


def refusal(config: "PreTrainedConfig", reason: str, advice: str = "") -> ModelError:
    """The error of a model that cannot be described, or not without a file: then with advice to write one."""
    return ModelError(
        f"model type {config.model_type!r} is not described, and cannot be detected: {reason}; choose a decoder whose "
        f"layers are attention and MLP{advice}"
    )


def _signs(model: "PreTrainedModel") -> dict[str, str]:
    """What a model has besides attention and MLP, each with the first parameter that shows it."""
    found: dict[str, str] = {}
    for name, _ in model.named_parameters():
        for what, pattern in _SIGNS.items():
            if what not in found and re.search(pattern, name):
                found[what] = name
    return found
