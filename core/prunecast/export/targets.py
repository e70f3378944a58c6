"""Targets that a model can be exported to, by its config alone."""

from typing import TYPE_CHECKING

from prunecast.errors import ExportError
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import shape_of
from prunecast.models.source import ModelSource
from prunecast.plugins.guard import instance
from prunecast.plugins.host import PluginHost

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def targets_for(
    host: PluginHost, config: "PreTrainedConfig", family: Family, source: ModelSource | None = None
) -> tuple[str, ...]:
    """Names of the exporters, with their default options, that can write pruned models of a config.

    Exporters with an option that has no default are left out.

    Args:
        host: host of the exporters.
        config: config of the dense model.
        family: description of its family, as settled for this config.
        source: files of the model, whose tokenizer a target may not support either; None to check the config alone.
    """
    shape = shape_of(config, family)
    found = []
    for name, registered in host.entries("exporter").items():
        try:
            options = registered.load().options_model()
        except ValueError:
            continue
        try:
            exporter = instance(registered, options)
            exporter.limits(config, family, shape)
            if source is not None:
                exporter.check(source)
        except ExportError:
            continue
        found.append(name)
    return tuple(found)
