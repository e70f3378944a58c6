"""Values in a config that no model can have, told with the field and with what would be right."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError, one_line
from prunecast.models.families.sizes import model_without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Names of the field with the number of layers."""

_COUNTS = (
    *DEPTHS,
    *("num_attention_heads", "n_head", "n_heads", "num_heads"),
    *("num_key_value_heads", "num_kv_heads"),
    *("hidden_size", "n_embd", "d_model", "head_dim", "vocab_size"),
)
"""Names of fields that hold a number of something, of which every model has one at least."""


def check_counts(content: Mapping[str, Any], name: str) -> None:
    """Raise ModelError if a config says that a model has none of something, or fewer than none; by its content alone.

    Args:
        content: content of the config as it is stored.
        name: name of the model, for the message.
    """
    for field in _COUNTS:
        value = content.get(field)
        if type(value) is int and value < 1:
            raise ModelError(
                f"model {name}: {field} is {value} in config.json, and 1 at least in any model: correct it"
            )


def check_makes_model(config: "PreTrainedConfig", subject: str) -> None:
    """Raise ModelError unless transformers makes a model of a config; the message names the field that it fails at.

    No weight is allocated.

    Args:
        config: the config of a causal language model; it is not changed.
        subject: whose config it is, for the message.
    """
    try:
        model_without_weights(config)
    # Classes of transformers and of others check their configs in their own ways.
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ModelError(f"{subject}: {_wrong_field(config)} ({reason}): correct config.json") from error


def _wrong_field(config: "PreTrainedConfig") -> str:
    """The field without whose value a model could be made, and the default of its class, which can be; as a clause."""
    for field, usual in _defaults(config).items():
        changed: Any = copy.deepcopy(config)
        setattr(changed, field, usual)
        try:
            model_without_weights(changed)
        except Exception:  # noqa: BLE001  # whatever they raise
            continue
        return f"transformers makes no model with {field} {vars(config)[field]!r}, but does with {usual!r}"
    return "transformers makes no model of its config"


def _defaults(config: "PreTrainedConfig") -> dict[str, Any]:
    """Fields of a config that are not at the default of its class, each with the default; none if there are none."""
    try:
        usual = vars(type(config)())
    except Exception:  # noqa: BLE001  # as above
        return {}
    own = vars(config)
    return {name: value for name, value in usual.items() if name[0] != "_" and name in own and own[name] != value}
