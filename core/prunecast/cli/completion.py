"""Completers, by which a shell completes arguments: specs, files, runs, models, metrics and names of plugins.

A completer never prints: where a registry is missing or cannot be read, nothing is completed.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from prunecast.registry import Registry

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def specs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of packaged specs, and files. Files come first, as bash forgets at them what came before."""
    from prunecast.spec.load import packaged_specs

    return [*files(context, parameter, incomplete), *_starting(packaged_specs(), incomplete)]


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files and folders, in the place of a model."""
    return [CompletionItem(incomplete, type="file")]


def plugins(kind: str | None = None) -> Completer:
    """Completer of the names of plugins of a kind; by default of the kind that ``--kind`` names, or of all."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from prunecast.plugins.host import KINDS, PluginHost

        host = PluginHost.discover()
        named = kind or context.params.get("kind")
        return _starting((name for each in ([named] if named else KINDS) for name in host.provided(each)), incomplete)

    return complete


def _recorded(names: "Callable[[Registry], Iterable[str]]") -> Completer:
    """Completer of names that the registry of the command line has."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from prunecast.errors import PrunecastError
        from prunecast.registry import Registry

        with suppress(PrunecastError), Registry.open(context.params["registry_path"], readonly=True) as registry:
            return _starting(names(registry), incomplete)
        return []

    return complete


def _runs(registry: "Registry") -> Iterable[str]:
    return [name for record in registry.runs() for name in (record.name, str(record.id))]


def _models(registry: "Registry") -> Iterable[str]:
    from prunecast.registry.queries.contents import models

    return [row["model"] for row in models(registry)]


def _metrics(registry: "Registry") -> Iterable[str]:
    from prunecast.registry.queries.contents import metrics

    return [row["metric"] for row in metrics(registry)]


runs, models, metrics = _recorded(_runs), _recorded(_models), _recorded(_metrics)
"""Completers of runs by name and number, of sources of models, and of metrics."""


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]
