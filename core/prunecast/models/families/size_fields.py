"""Fields of a config that hold the sizes of a layer, found by their values in the config of a small model."""

import copy
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError
from prunecast.models.families.rows import AttentionRows
from prunecast.models.families.sizes import model_without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
_GROUPS = ("num_key_value_heads", "num_kv_heads", "kv_heads")
_WIDTH = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "dim_ff", "dff", "d_ff")
"""Usual names of the sizes, the most usual ones first."""


def heads_field(config: "PreTrainedConfig", rows: AttentionRows) -> str:
    """Name of the field with the number of query heads. Raises ModelError if it may be another one, too."""
    usual = [name for name in _stored(config, _HEADS) if getattr(config, name) == rows.heads]
    found = usual[:1] or _of_value(config, rows.heads)
    if len(found) != 1:
        listed = " or ".join(found) or "none of its fields"
        raise ModelError(f"the number of query heads may be in {listed} of {type(config).__name__}")
    return found[0]


def groups_field(config: "PreTrainedConfig", rows: AttentionRows) -> str | None:
    """Name of the field with the number of KV groups; None if every query head has its own."""
    usual = _stored(config, _GROUPS)
    if usual:
        return usual[0]
    return None if rows.groups == rows.heads else _GROUPS[0]


def width_field(config: "PreTrainedConfig", width: int, down: str) -> str:
    """Name of the field with the width of the MLP; a usual one if the class derives the width from other fields.

    Args:
        config: config of a small model.
        width: the width of its MLP.
        down: path in the model of the down projection of a layer.
    """
    usual = _stored(config, _WIDTH)
    same = list(dict.fromkeys([*(name for name in usual if getattr(config, name) == width), *_of_value(config, width)]))
    deciding = [name for name in same if len(same) > 1 and _decides(config, name, width, down)]
    return [*deciding, *same, *usual, _WIDTH[0]][0]


def _decides(config: "PreTrainedConfig", name: str, width: int, down: str) -> bool:
    """True if another value of a field changes the shape of a projection."""
    changed = copy.deepcopy(config)
    setattr(changed, name, width + 2)
    before = model_without_weights(config).get_parameter(f"{down}.weight").shape
    try:
        return model_without_weights(changed).get_parameter(f"{down}.weight").shape != before
    # A class raises anything for numbers that do not go together.
    except Exception:  # noqa: BLE001
        return False


def _of_value(config: Any, value: int) -> list[str]:
    """Fields of a config that are such a number."""
    return [name for name, own in vars(config).items() if type(own) is int and own == value and name[0] != "_"]


def _stored(config: Any, names: tuple[str, ...]) -> list[str]:
    """Those of the names under which a config holds a value, as it names them itself."""
    own = dict.fromkeys(config.attribute_map.get(name, name) for name in names)
    return [name for name in own if name in vars(config)]
