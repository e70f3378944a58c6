"""All findings, in a fixed order."""

from collections.abc import Iterator
from pathlib import Path

from prunecast.doctor.finding import Finding, findings_of
from prunecast.doctor.installation import extras, plugins, versions
from prunecast.doctor.machine import device, folders, hub
from prunecast.doctor.model import model
from prunecast.doctor.registry import registry
from prunecast.plugins.host import PluginHost


def examine(host: PluginHost, registry_path: Path, model_name: str | None = None) -> Iterator[Finding]:
    """Findings on the installation, the machine, a registry and a model, each as soon as it is made.

    Nothing is written, and the network is asked for seconds at most.

    Args:
        host: the plugins.
        registry_path: file of the registry, which need not exist.
        model_name: an alias, a ``.gguf`` file, a folder or a Hub id; None for no model.
    """
    yield from findings_of("prunecast", versions)
    yield from findings_of("plugins", lambda: plugins(host))
    yield from findings_of("device", device)
    yield from findings_of("folders", folders)
    yield from findings_of("hub", hub)
    yield from findings_of("registry", lambda: registry(registry_path))
    yield from findings_of("extras", extras)
    if model_name is not None:
        yield from findings_of("model", lambda: model(model_name, host))
