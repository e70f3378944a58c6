"""Attributes of an attention module that follow its number of heads: those of the right numbers, tried out."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

from prunecast.errors import ModelError
from prunecast.models.families.cuts import CutTrial, sizes_of
from prunecast.models.families.family import Family, SizeName
from prunecast.models.families.layer_parts import LayerParts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Follows = dict[str, SizeName]
"""Attributes of an attention, each with the size that it follows."""


def following(family: Family, trials: Sequence[CutTrial], big: Sequence[LayerParts]) -> Follows:
    """What the forward pass of an attention depends on.

    Args:
        family: description of its family, in which only this is missing.
        trials: the attention of each layer of a small model.
        big: the layers of the model itself, without weights.

    Raises:
        ModelError: with nothing that could follow does the attention work with fewer heads.
    """
    small = trials[0].model
    tried = [trial for trial in trials if trial.rows.heads > 1]
    both = small._supports_sdpa and small._can_set_attn_implementation()
    implementations = ["eager", "sdpa"] if both else ["eager"]
    for follows in _readings(family, trials, big):
        if all(_succeed(tried, follows, implementation) for implementation in implementations):
            return follows
    raise ModelError(f"{family.layers}.0.{family.attention} does not work with fewer heads, whatever follows them")


def _succeed(trials: Sequence[CutTrial], follows: Follows, implementation: str) -> bool:
    for trial in trials:
        if trial.model.config._attn_implementation != implementation:
            trial.model.set_attn_implementation(implementation)
    return all(trial.succeeds(follows) for trial in trials)


def _readings(family: Family, trials: Sequence[CutTrial], big: Sequence[LayerParts]) -> Iterator[Follows]:
    """What may follow, the likeliest first: attributes of the attention, then fields of its config, too."""
    options = _options(family, trials, big)
    for of_config in _fields_of_heads(family):
        for chosen in product(*options.values()):
            yield {name: size for name, size in zip(options, chosen, strict=True) if size} | of_config


def _options(
    family: Family, trials: Sequence[CutTrial], big: Sequence[LayerParts]
) -> dict[str, list[SizeName] | list[SizeName | None]]:
    """Sizes that each attribute of the attention may follow; None if it may follow none of them.

    An attribute follows a size if it is as large in the small and in the big model. One that is as large as the width
    of the residual stream may follow neither.
    """
    modules = [(_attention(family, trial), trial.sizes) for trial in trials]
    modules += [(each.attention, sizes_of(*each.sizes[:2], each.head_dim)) for each in big if each.sizes.kv_groups]
    alike = [_alike(module, sizes) for module, sizes in modules]
    rows, width = trials[0].rows, trials[0].model.config.hidden_size
    options: dict[str, list[SizeName] | list[SizeName | None]] = {}
    for name in sorted(alike[0]):
        common = set.intersection(*(each.get(name, set()) for each in alike))
        likely = sorted(common, key=lambda size: _unlike(name, size))
        if {"query_heads", "kv_groups"} <= common and rows.heads == rows.groups:
            likely = likely[:1]  # the same number, always
        if likely:
            options[name] = [None, *likely] if getattr(modules[0][0], name) == width else likely
    return options


def _attention(family: Family, trial: CutTrial) -> "nn.Module":
    model: PreTrainedModel = trial.model
    return model.get_submodule(f"{family.layers}.{trial.index}.{family.attention}")


def _alike(attention: "nn.Module", sizes: dict[SizeName, int]) -> dict[str, set[SizeName]]:
    """Sizes that are as large as each attribute of an attention; none of 1, which does not change."""
    return {
        name: {size for size, number in sizes.items() if number == value and number > 1}
        for name, value in vars(attention).items()
        if type(value) is int and not name.startswith("_")
    }


def _unlike(name: str, size: SizeName) -> tuple[bool, str]:
    """Sorts sizes for an attribute: those that its name suggests first."""
    hints: dict[SizeName, bool] = {
        "heads_per_group": "group" in name,
        "kv_groups": ("kv" in name or "key_value" in name) and "group" not in name,
        "query_heads": "head" in name,
        "query_width": True,
    }
    return not hints[size], size


def _fields_of_heads(family: Family) -> list[Follows]:
    """Fields of the config that an attention may read instead of attributes of its own: none, the heads, or both."""
    found: list[Follows] = [{}]
    usual = ("num_attention_heads", "num_key_value_heads")
    for heads, groups in dict.fromkeys([usual, (family.heads_attribute, family.groups_attribute)]):
        found.append({f"config.{heads}": "query_heads"})
        if groups:
            found.append({f"config.{heads}": "query_heads", f"config.{groups}": "kv_groups"})
    return found
