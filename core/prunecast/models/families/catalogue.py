"""The described families, and the description that is used for a config."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError
from prunecast.models.families.family import EXPORTED as EXPORTED
from prunecast.models.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class Families(Mapping[str, Family]):
    """Descriptions by model type.

    Args:
        described: the descriptions.
        chosen: description to use for every model, whatever its type; None for that of its type.
    """

    def __init__(self, described: Mapping[str, Family], chosen: Family | None = None) -> None:
        self._described, self.chosen = described, chosen

    def __getitem__(self, kind: str) -> Family:
        return self._described[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._described)

    def __len__(self) -> int:
        return len(self._described)

    def detects(self, config: "PreTrainedConfig") -> bool:
        """True if nothing describes the family of a config, so that :meth:`of` detects it."""
        return self.chosen is None and config.model_type.removeprefix(EXPORTED) not in self._described

    def of(self, config: "PreTrainedConfig") -> Family:
        """Description of the family of a model, settled for its config; detected if there is none.

        Raises:
            ModelError: the family is not described, and cannot be detected; the message says why.
        """
        from prunecast.models.families.detection import detect

        if self.detects(config):
            return detect(config)
        described = self.chosen or self._described[config.model_type.removeprefix(EXPORTED)]
        return described.settled(config)


def check_type(config: Mapping[str, Any], name: str) -> None:
    """Raise ModelError unless the model type in the content of a config is that of a causal language model.

    Needs no weight, and runs no code of the model's own. A config without a type is left to its own reader, and so is
    the type of an export.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind, coded = config.get("model_type"), bool(config.get("auto_map"))
    if not isinstance(kind, str) or kind.startswith(EXPORTED) or kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    if kind in CONFIG_MAPPING and CONFIG_MAPPING[kind] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"model {name}: type {kind!r} is not a causal language model; choose one that is")
    if kind not in CONFIG_MAPPING:
        raise no_class(kind, name) if coded else unknown_type(kind, f"model {name}: ", config)


def unknown_type(kind: str, subject: str = "", config: Mapping[str, Any] | None = None) -> ModelError:
    """Error of a model type that the installed transformers does not have.

    Args:
        kind: the type.
        subject: beginning of the message.
        config: content of the config that states it, which says what wrote it; None for none.
    """
    import transformers

    writer = (config or {}).get("transformers_version")
    written = f", and its config is of version {writer}" if isinstance(writer, str) else ""
    return ModelError(
        f"{subject}transformers {transformers.__version__}, which is installed, has no model type {kind!r}{written}: "
        "install a version that has it (pip install -U transformers), or correct the type"
    )


def no_class(kind: str, name: str) -> ModelError:
    """Error of a model that needs its own code, which is not trusted."""
    return ModelError(
        f"model {name}: transformers has no class for type {kind!r}: set trust_remote_code: true if you trust the code "
        "that comes with the model, or install a package with classes for this type"
    )
