"""The names of sizes in a config, found by changing numbers and looking at the layers that the class builds."""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Layer
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import model_without_weights

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig

HEADS = "num_attention_heads"
"""Name of the number of query heads in transformers, which a config class may map to one of its own."""


def wrong_name(config: "PreTrainedConfig", family: Family, dense: Layer) -> str:
    """A clause on an attribute of the config that is described wrongly; empty if there is none.

    Args:
        config: the config of a small model, in which no two sizes are the same by chance.
        family: description of its family, as settled for it.
        dense: sizes of its first layer.
    """
    own = config.attribute_map
    heads = own.get(HEADS, HEADS)
    if own.get(family.heads_attribute, family.heads_attribute) != heads:
        return f"heads_attribute={family.heads_attribute!r}, the config has the number of query heads as {heads!r}"
    sizes = {
        "groups_attribute": (family.key, dense.kv_groups, 1 if dense.kv_groups > 1 else dense.heads_per_group),
        "width_attribute": (family.up, dense.mlp_width, dense.mlp_width + 2),
    }
    for name, (module, size, other) in sizes.items():
        described = getattr(family, name)
        fields = [field for field in _deciding(config, family, module, size, other) if field != heads]
        if fields and own.get(described, described) not in fields:
            return f"{name}={described!r}, the config has this number as {' or '.join(map(repr, fields))}"
    return ""


def has_own_head_dim(config: "PreTrainedConfig", family: Family) -> bool:
    """True if the class builds heads of the width in its config, however many there are, in place of splitting D."""
    if "head_dim" not in vars(config):
        return False
    more: Any = copy.deepcopy(config)
    more.num_attention_heads *= 2
    _, before = _shapes(config, family, family.query)
    _, after = _shapes(more, family, family.query)
    return bool(after.numel() == 2 * before.numel())


def _deciding(config: "PreTrainedConfig", family: Family, module: str, size: int, other: int) -> Iterator[str]:
    """Fields of the config of value ``size`` that decide the shape of a module, but not that of the output."""
    before = _shapes(config, family, module)
    for field, value in vars(config).items():
        if value == size and type(value) is int and not field.startswith("_"):
            changed = copy.deepcopy(config)
            setattr(changed, field, other)
            try:
                after = _shapes(changed, family, module)
            # The class can raise anything for numbers that do not go together.
            except Exception:  # noqa: BLE001
                continue
            if after[0] != before[0] and after[1] == before[1]:
                yield field


def _shapes(config: "PreTrainedConfig", family: Family, module: str) -> "tuple[Any, Any]":
    """Shapes of a module and of the output projection in the first layer."""
    layers: Any = model_without_weights(config).get_submodule(family.layers)
    first: nn.Module = layers[0]
    module_shape, output_shape = (first.get_submodule(name).weight.shape for name in (module, family.output))
    return module_shape, output_shape
