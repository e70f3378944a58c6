"""The config of a located model together with the description of its family, asked for before anything is converted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunecast.models.families.catalogue import Families, check_type, no_class
from prunecast.models.families.config_values import check_counts, check_makes_model
from prunecast.models.families.family import EXPORTED, Family
from prunecast.models.families.own_classes import needs_own_code, register_own
from prunecast.models.pruned.classes import as_pruned, has_layers_of_different_sizes, is_exported, register
from prunecast.models.source import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def described(source: ModelSource, families: Families) -> "tuple[PreTrainedConfig, Family]":
    """Config of a model as it is loaded, and the description of its family as settled for it.

    Classes for an export, or for another model whose layers have sizes of their own, are registered with transformers.
    A ``.gguf`` file is asked for its family by its header, and converted after that.

    Raises:
        ModelError: the config cannot be read, or is not that of a causal language model of a described family; or a
            ``.gguf`` file has what transformers does not read from it.
    """
    source.check_architecture()
    header: dict[str, Any] = source.header()
    check_counts(header, source.name)
    source.check_depth()
    _import_classes(header, families)
    if needs_own_code(header):
        if not source.trust_remote_code:
            raise no_class(str(header["model_type"]).removeprefix(EXPORTED), source.name)
        register_own(source.path, header, source.name)
    if has_layers_of_different_sizes(header):
        register(header, families, source.name)
    elif not source.is_converted:
        families.of(source.header_config())
    source.check_header()
    config = source.config()
    check_makes_model(config, f"model {source.name}")
    return config, families.of(config)


def config_of(content: Mapping[str, Any], families: Families, name: str) -> "PreTrainedConfig":
    """Config with some content, of a model that is not at hand; as :func:`described` gives it.

    Raises:
        ModelError: it is not the config of a causal language model.
        TypeError, ValueError: transformers makes no config of it.
    """
    from transformers import AutoConfig

    _import_classes(content, families)
    check_type(content, name)
    check_counts(content, name)
    if has_layers_of_different_sizes(content):
        register(content, families, name)
    config = AutoConfig.for_model(**content)
    if has_layers_of_different_sizes(content) and not is_exported(config.model_type):
        config = as_pruned(config)
    check_makes_model(config, f"model {name}")
    return config


def _import_classes(content: Mapping[str, Any], families: Families) -> None:
    """Let the package that describes a model type register classes for it, which it does when its file is read."""
    families.get(str(content.get("model_type")).removeprefix(EXPORTED))
