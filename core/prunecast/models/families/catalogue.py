"""The described families, and the description that is used for a config."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError
from prunecast.models.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

EXPORTED = "prunecast-"
"""Beginning of the model types of exports, whose layers have sizes of their own."""


class Families(Mapping[str, Family]):
    """Descriptions by model type.

    Args:
        described: the descriptions.
    """

    def __init__(self, described: Mapping[str, Family]) -> None:
        self._described = dict(described)

    def __getitem__(self, kind: str) -> Family:
        return self._described[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._described)

    def __len__(self) -> int:
        return len(self._described)

    def of(self, config: "PreTrainedConfig") -> Family:
        """Description of the family of a model, settled for its config.

        Raises:
            ModelError: the family is not described; the message names those that are.
        """
        kind = config.model_type.removeprefix(EXPORTED)
        if kind not in self._described:
            raise ModelError(
                f"model type {kind!r} is not described (described: {', '.join(sorted(self))}): choose a model of one "
                "of these, or describe its family in a file (model.family)"
            )
        return self._described[kind].settled(config)


def check_type(config: Mapping[str, Any], name: str) -> None:
    """Raise ModelError unless the model type in the content of a config is that of a causal language model.

    Needs no weight, and runs no code of the model's own. A type that transformers does not know, and a config without
    one, are left to its own reader.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind, coded = config.get("model_type"), bool(config.get("auto_map"))
    if not isinstance(kind, str) or kind.startswith(EXPORTED):
        return
    if kind in CONFIG_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"model {name}: type {kind!r} is not a causal language model; choose one that is")
    if kind not in CONFIG_MAPPING and coded:
        raise ModelError(
            f"model {name}: transformers has no class for type {kind!r}, and trust_remote_code: true does not help: "
            "code of its own is compared with a stock class, never pruned"
        )
