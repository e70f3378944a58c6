"""What a config lists layer by layer, and the same for some of its layers."""

from collections.abc import Sequence
from typing import Any


def lists_by_layer(config: Any) -> dict[str, list[Any]]:
    """What a config lists layer by layer, by the name of the field. Numbers of all layers are not such a list."""
    depth = config.num_hidden_layers
    lists = {name: list(value) for name, value in vars(config).items() if isinstance(value, list | tuple)}
    return {name: value for name, value in lists.items() if len(value) == depth and value != list(range(depth))}


def listed_for(config: Any, kept: Sequence[int]) -> dict[str, Any]:
    """Fields that list something layer by layer, with the entries of some layers alone.

    Args:
        config: the config.
        kept: indices of the layers, ascending.
    """
    changes: dict[str, Any] = {name: [value[index] for index in kept] for name, value in lists_by_layer(config).items()}
    if "attention_types" in vars(config) and "attention_layers" in changes:  # GPT-Neo: the same, in runs
        changes["attention_types"] = [[changes["attention_layers"], 1]]
    return changes
