"""A small config of the class of a big one: a few layers, one of each kind, with sizes in proportion."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError, one_line
from prunecast.models.families.by_layer import listed_for, lists_by_layer
from prunecast.models.families.config_values import check_makes_model
from prunecast.models.families.family import EXPORTED
from prunecast.models.families.sizes import model_without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LAYERS, GROUPS, HEADS, WIDTH, VOCABULARY = 3, 3, 4, 19, 47
"""Of the small model: fewest layers if the big one has so many, most KV groups, query heads per group and MLP channels,
and tokens."""

CONTEXT, UNSCALED, WINDOW = 67, 32, 5
"""Tokens of the small model: its context, the part that a scaled rotary embedding leaves as it is, and the sliding
window."""

HEAD_DIMS, UNROTATED = (8, 10, 12, 16, 20, 24, 32), 4
"""Widths of a head, of which the first is taken that the rotary embedding can split; and of one without it."""

LARGEST = 400
"""Most rows or columns that a parameter of a small model has."""

_GROUPS = ("num_key_value_heads", "num_kv_heads")
_WIDTHS = (
    "intermediate_size",
    "n_inner",
    "ffn_dim",
    "ffn_hidden_size",
    "d_ff",
    "dff",
    "dim_ff",
    "d_inner",
    "shared_intermediate_size",
)
_CONTEXTS = ("max_position_embeddings", "max_seq_len", "n_ctx", "seq_length")
_WINDOWS = {"sliding_window": 1, "window_size": 1, "attention_window_size": 1, "local_attention": 2}
_MULTIPLES = ("block_multiple_of",)
_LIKE_HIDDEN = ("word_embed_proj_dim", "embedding_size", "n_embd", "ffn_hidden_dim")
_UNSCALED = "original_max_position_embeddings"
_OF_EXPORTS = ("model_type", "auto_map", "architectures", "output_bias")


def small(config: "PreTrainedConfig") -> "PreTrainedConfig":
    """A small config of the same class, of a model with all that the forward pass of the big one has.

    A few layers remain, at least one of each kind that the config lists by layer. Kept are: whether every query head
    has its own KV group, or all share one; the part of a head that is rotated; the width of all heads relative to that
    of the residual stream. Sliding windows are shorter than a dozen tokens. Tokens beyond the small vocabulary
    become its last one. The config of an export becomes one of the class of its dense model.

    Args:
        config: config of a decoder; it is not changed.

    Raises:
        ModelError: the class has other names for its sizes, or sizes that depend on one another; the message names the
            field.
    """
    dense = dense_config(config)
    sizes = _sizes(dense)
    changes = sizes | _by_layer(dense, sizes["num_hidden_layers"]) | _positions(dense, sizes) | _tokens(dense)
    try:
        made, model = _made(dense, changes)
    # Classes of transformers and of others check their sizes in their own ways.
    except Exception as error:
        given = {name: value for name, value in _derived(sizes).items() if vars(dense).get(name, 0) is None}
        if not given:
            check_makes_model(dense, type(dense).__name__)
            raise _refused(config, f"{_culprit(dense, changes)}: {one_line(error)}") from error
        made, model = _made(dense, changes | given)  # the default of some classes lacks what their models need
    _check_size(config, made, model)
    return made


def dense_config(config: "PreTrainedConfig") -> "PreTrainedConfig":
    """A copy of a config without what belongs to the files of its model, and with the same sizes in all layers."""
    parts = [name for name in config.sub_configs if "text" in name or "decoder" in name]
    if parts:
        raise _refused(config, f"its field {parts[0]!r} is a config of its own")
    dense = copy.deepcopy(config)
    dense.per_layer_config = None
    if config.model_type.startswith(EXPORTED):
        content = dense.to_dict()
        stock: Any = type(config).__base__
        dense = stock.from_dict({name: value for name, value in content.items() if name not in _OF_EXPORTS})
    if getattr(dense, "quantization_config", None) is not None:
        del dense.quantization_config
    return dense


def _sizes(config: Any) -> dict[str, Any]:
    """Numbers of layers, heads and groups, and all widths, by the name of the field."""
    for name in ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size"):
        if not isinstance(getattr(config, name, None), int):
            raise _refused(config, f"it has no number {name!r}")
    heads, hidden, groups_name = config.num_attention_heads, config.hidden_size, _first(config, _GROUPS)
    groups = getattr(config, groups_name) if groups_name else heads
    small_groups = min(GROUPS, groups)
    small_heads = small_groups * min(HEADS if groups == 1 else GROUPS, max(1, heads // groups))
    head_dim, explicit = _head_dim(config), _is_field(config, "head_dim")
    old_dim = config.head_dim if explicit else hidden // heads
    exact = small_heads * head_dim * hidden / (heads * old_dim)
    small_hidden = max(2, round(exact / small_heads)) * small_heads
    sizes: dict[str, Any] = {
        "num_hidden_layers": min(config.num_hidden_layers, max(LAYERS, len(_kinds(config)))),
        "num_attention_heads": small_heads,
        "hidden_size": small_hidden,
    }
    if groups_name:
        sizes[groups_name] = small_groups
    if explicit:
        sizes["head_dim"] = head_dim
    if _is_field(config, "rotary_dim"):
        sizes["rotary_dim"] = max(2, 2 * round(config.rotary_dim * head_dim / old_dim / 2))
    for name in _present(config, _WIDTHS):
        sizes[name] = min(WIDTH, max(2, round(getattr(config, name) * small_hidden / hidden)))
    sizes |= dict.fromkeys(_present(config, _MULTIPLES), 1)
    for name in _present(config, _LIKE_HIDDEN):
        sizes[name] = max(2, round(getattr(config, name) * small_hidden / hidden))
    return sizes


def _derived(sizes: Mapping[str, Any]) -> dict[str, int]:
    """Sizes that a config need not name, as they follow from others."""
    heads = sizes["num_attention_heads"]
    return {"head_dim": sizes["hidden_size"] // heads, "num_key_value_heads": heads}


def _head_dim(config: Any) -> int:
    """Width of a head of which the rotated part is an even number."""
    rope = getattr(config, "rope_parameters", None) or {}
    if not rope and not _is_field(config, "rotary_dim"):
        return UNROTATED
    parts = [rope, *(each for each in rope.values() if isinstance(each, Mapping)), vars(config)]
    fractions = [part[name] for part in parts for name in ("partial_rotary_factor", "rotary_pct") if part.get(name)]
    for width in HEAD_DIMS:
        if all(abs(width * fraction / 2 - max(1, round(width * fraction / 2))) < 1e-6 for fraction in fractions):
            return width
    raise _refused(config, f"'partial_rotary_factor' is {fractions}, no even part of a head of {HEAD_DIMS}")


def _kinds(config: Any) -> list[int]:
    """First layer of each kind, by all that the config lists layer by layer."""
    first: dict[str, int] = {}
    for index in range(config.num_hidden_layers):
        first.setdefault(repr([each[index] for each in lists_by_layer(config).values()]), index)
    return list(first.values())


def _by_layer(config: Any, layers: int) -> dict[str, Any]:
    """What the config lists by layer, for the layers that remain: the first of each kind, and the first ones."""
    depth, kinds = config.num_hidden_layers, _kinds(config)
    others = [index for index in range(depth) if index not in kinds]
    kept = sorted((kinds + others)[:layers])
    return listed_for(config, kept)


def _positions(config: Any, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Context, sliding windows and the scaling of rotary embeddings."""
    changes: dict[str, Any] = dict.fromkeys(_present(config, _CONTEXTS), CONTEXT)
    changes |= {name: WINDOW * _WINDOWS.get(name, 1) for name in _present(config, tuple(_WINDOWS))}
    changes |= dict.fromkeys(_present(config, (_UNSCALED,)), UNSCALED)
    rope = getattr(config, "rope_parameters", None)
    if rope:
        head_dim = sizes.get("head_dim") or sizes["hidden_size"] // sizes["num_attention_heads"]
        nested = {name: _scaled(value, head_dim, config) for name, value in rope.items() if isinstance(value, Mapping)}
        changes["rope_parameters"] = {**rope, **nested} if nested else _scaled(rope, head_dim, config)
    return changes


def _scaled(rope: Mapping[str, Any], head_dim: int, config: Any) -> dict[str, Any]:
    """Parameters of a rotary embedding for the small context, with a factor for each frequency of a smaller head."""
    fraction = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
    frequencies = round(head_dim * fraction / 2)
    changed = {
        name: value[:frequencies] if isinstance(value, list) and name.endswith("_factor") else value
        for name, value in rope.items()
    }
    return changed | ({_UNSCALED: UNSCALED} if _UNSCALED in rope else {})


def _tokens(config: Any) -> dict[str, Any]:
    """A small vocabulary, and no token outside of it."""
    vocabulary = min(VOCABULARY, config.vocab_size)
    ids = {name: value for name, value in vars(config).items() if name.endswith("_token_id") and value is not None}
    outside = [name for name, value in ids.items() if not isinstance(value, int) or value >= vocabulary]
    return {"vocab_size": vocabulary} | dict.fromkeys(outside, vocabulary - 1)


def _made(config: "PreTrainedConfig", changes: Mapping[str, Any]) -> "tuple[PreTrainedConfig, PreTrainedModel]":
    """A changed copy of a config, and its model without weights."""
    made = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(made, name, value)
    return made, model_without_weights(made)


def _culprit(config: "PreTrainedConfig", changes: Mapping[str, Any]) -> str:
    """The field without whose change a small model could be made, if it is a single one."""
    for name in changes:
        try:
            _made(config, {other: changes[other] for other in changes if other != name})
        except Exception:  # noqa: BLE001  # whatever they raise
            continue
        return f"its field {name!r} cannot be {changes[name]!r}"
    return "no single field of it is the reason"


def _check_size(config: "PreTrainedConfig", made: "PreTrainedConfig", model: Any) -> None:
    """Raise ModelError if the model made from a small config still has a big parameter."""
    for name, parameter in model.named_parameters():
        largest = max(parameter.shape, default=0)
        if largest > LARGEST:
            fields = [field for field, value in vars(made).items() if value == largest and not field.startswith("_")]
            guess = f", as its field {fields[0]!r} says" if fields else ""
            raise _refused(config, f"{name} would still have {largest:,} rows or columns{guess}")


def _is_field(config: Any, name: str) -> bool:
    """True if the config holds a number under this name, which can be set."""
    return isinstance(vars(config).get(name), int)


def _present(config: Any, names: tuple[str, ...]) -> list[str]:
    own = {config.attribute_map.get(name, name) for name in names}
    return [name for name in sorted(own) if _is_field(config, name)]


def _first(config: Any, names: tuple[str, ...]) -> str | None:
    return next(iter(_present(config, names)), None)


def _refused(config: object, reason: str) -> ModelError:
    return ModelError(
        f"config class {type(config).__name__} cannot be shrunk to a model that proves a family: {reason}; give its "
        "sizes the names that transformers has for them (attribute_map)"
    )
