"""The names of sizes in a config, found by changing numbers and looking at the layers that the class builds."""

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Layer
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import model_without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

HEADS = "num_attention_heads"
"""Name of the number of query heads in transformers; a config class may map it to another attribute."""

OTHERS = ("num_hidden_layers", "hidden_size", "vocab_size")
"""Names of sizes in transformers that are never the number of groups or the width of an MLP."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of all parameters of a model, by name."""


def wrong_name(config: "PreTrainedConfig", family: Family, dense: Layer) -> str:
    """A clause on an attribute of the config that is described wrongly; empty if there is none.

    Args:
        config: the config of a small model, in which sizes differ as far as they can.
        family: description of its family, as settled for it.
        dense: sizes of its first layer.
    """
    own = config.attribute_map
    heads = own.get(HEADS, HEADS)
    if own.get(family.heads_attribute, family.heads_attribute) != heads:
        return f"heads_attribute={family.heads_attribute!r}, the config has the number of query heads as {heads!r}"
    if family.groups_attribute is not None and not hasattr(config, family.groups_attribute):
        return f"groups_attribute={family.groups_attribute!r}, which the config does not have"
    fewer = 1 if dense.kv_groups > 1 else dense.heads_per_group
    sizes = {
        "groups_attribute": ((family.key, family.value), dense.kv_groups, fewer),
        "width_attribute": ((family.up, family.down), dense.mlp_width, dense.mlp_width + 2),
    }
    for name, (modules, size, other) in sizes.items():
        described = getattr(family, name)
        if own.get(described, described) in (own.get(each, each) for each in OTHERS):
            return f"{name}={described!r}, which is another size"
        deciding = [field for field in _deciding(config, family, modules, size, other) if field != heads]
        if deciding and own.get(described, described) not in deciding:
            return f"{name}={described!r}, the config has this number as {' or '.join(map(repr, deciding))}"
        if not deciding and described is not None and (changed := _others(config, family, described, other + 4)):
            return f"{name}={described!r}, which also decides the size of {changed}"
    return ""


def has_own_head_dim(config: "PreTrainedConfig", family: Family) -> bool:
    """True if the class builds heads of the width in its config, whatever their number; False if it divides D."""
    if "head_dim" not in vars(config):
        return False
    before, after = _shapes(config), _shapes(_with(config, HEADS, 2 * config.num_attention_heads))
    output = f"{family.layers}.0.{family.output}.weight"
    return sorted(after[output]) == sorted((before[output][0], 2 * before[output][1]))


def has_own_width(config: "PreTrainedConfig", family: Family, width: int) -> bool:
    """True if the class builds MLPs of exactly the width in its config; False if it computes the width."""
    if config.attribute_map.get(family.width_attribute, family.width_attribute) not in vars(config):
        return False
    down = f"{family.layers}.0.{family.down}.weight"
    before, after = (_shapes(_with(config, family.width_attribute, each))[down] for each in (width, width - 1))
    return sorted(before) == sorted((config.hidden_size, width)) and width - 1 in after


def _deciding(
    config: "PreTrainedConfig", family: Family, modules: tuple[str, ...], size: int, other: int
) -> Iterator[str]:
    """Fields of the config that decide the sizes of the modules alone: of value ``size`` or, if none has it, None."""
    before = _shapes(config)
    here = {f"{family.layers}.0.{module}.weight" for module in modules}
    numbers = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    same = [name for name, value in numbers.items() if type(value) is int and value == size]
    for field in same or [name for name, value in numbers.items() if value is None]:
        try:
            after = _shapes(_with(config, field, other))
        # The class can raise anything for numbers that do not go together.
        except Exception:  # noqa: BLE001
            continue
        changed = {name for name in before if before[name] != after.get(name)}
        if changed & here and f"{family.layers}.0.{family.output}.weight" not in changed:
            yield field


def _others(config: "PreTrainedConfig", family: Family, field: str, other: int) -> str:
    """A parameter outside the layers' components whose size a field of the config decides; empty if there is none."""
    if not hasattr(config, field):
        return ""
    before = _shapes(config)
    try:
        after = _shapes(_with(config, field, other))
    # As above.
    except Exception:  # noqa: BLE001
        return ""
    components = (family.attention, *family.mlp)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    inside = [f".{index}.{name}." for index in range(config.num_hidden_layers) for name in components]
    return next((name for name in changed if not any(part in name for part in inside)), "")


def _with(config: "PreTrainedConfig", field: str, value: int) -> "PreTrainedConfig":
    changed = copy.deepcopy(config)
    setattr(changed, field, value)
    return changed


def _shapes(config: "PreTrainedConfig") -> Shapes:
    model: Any = model_without_weights(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
