'''The contract of plugins: one hook per kind of plugin.

A plugin is a module named by an entry point of the group ``prunecast``. Its hooks return entries; the requirements on
the class of an entry are documented in :mod:`prunecast.plugins.interfaces`::

    # my_package/prunecast_plugin.py
    from prunecast.plugins import Entry, hookimpl

    PRUNECAST_CONTRACT = 1

    @hookimpl
    def prunecast_predictors():
        """Ridge regression."""
        return [Entry("ridge", "my_package.ridge:Ridge", "Ridge regression on kept fractions")]

    # pyproject.toml
    [project.entry-points.prunecast]
    my_package = "my_package.prunecast_plugin"

``prunecast plugins new`` writes a complete package. A file named by ``plugins:`` in a spec, or in a folder named by
``--plugin-dir``, needs no packaging; the targets of its entries are written as ``f"{__name__}:Ridge"``.

Calls of hooks
--------------
The host imports the plugin module once per process whenever a command needs plugins, also for ``plugins list``. Keep
this import cheap: at module level, import nothing but the names of :mod:`prunecast.plugins`. The host calls a hook
without arguments, possibly several times per process, from the main thread. A hook has to be fast and stateless, and
return the same entries every time. If a hook raises, prints, exits, hangs or returns anything but entries, a warning
names its distribution; other plugins are not affected. ``PRUNECAST_TRACE=1`` prints every call.

Stability
---------
:data:`CONTRACT` covers the names of :mod:`prunecast.plugins` and :mod:`prunecast.testing`. Within a contract no name is
removed and no requirement is added; a new hook, a new hook argument, or a new method with a default may appear in any
release. A feature is deprecated for at least two minor releases before it is removed: its hook is specified with
``warn_on_impl``, an argument with ``warn_on_impl_args``, and the host warns with the name of the distribution and the
replacement when it loads such a plugin. Then :data:`CONTRACT` is raised; :data:`OLDEST_CONTRACT` is the oldest contract
whose plugins still load.
'''

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pluggy

from prunecast.plugins.events import ArchitectureMeasured, PredictorFitted, RoundFinished, RunFinished, RunStarted

CONTRACT = 1
"""Version of the contract. A plugin module may state the version it was written for as ``PRUNECAST_CONTRACT``."""

OLDEST_CONTRACT = 1
"""Oldest version of the contract whose plugins still load."""

hookspec = pluggy.HookspecMarker("prunecast")
hookimpl = pluggy.HookimplMarker("prunecast")


@dataclass(frozen=True)
class Trial:
    """Settings of ``prunecast plugins check`` for a plugin.

    Attributes:
        options: options of the check, as in a spec: those without a default, and small values that make it quick.
        expected_failures: names of checks of :mod:`prunecast.testing` that it cannot pass, each with the reason.
        requires: modules that it needs but its distribution does not install; without them most checks do not apply.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """Entry of one plugin, returned by a hook.

    Attributes:
        name: name of the plugin after ``use:`` in a spec, or model type of the family; unique among all installed
            plugins of the kind.
        target: ``module:Class``, imported only when a spec or ``plugins show`` needs it; ``module:path`` of the file of
            a family.
        summary: one line for ``prunecast plugins list``.
        reference: paper or source that the plugin implements, with equation or section; may be empty.
        trial: settings of ``prunecast plugins check``.
    """

    name: str
    target: str
    summary: str
    reference: str = ""
    trial: Trial = Trial()


@hookspec
def prunecast_families() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of descriptions of families, named by model type.

    The target is ``module:path``: a YAML file, its path relative to the folder of the module's file, as in
    ``f"{__name__}:my_type.yaml"``. Its fields are those of :class:`prunecast.plugins.Family`. The module is imported
    when the family is used; an architecture of your own registers its classes with ``AutoConfig`` and
    ``AutoModelForCausalLM`` there. The options of the trial are attributes of the config that the description is
    checked with.
    """


@hookspec
def prunecast_search_spaces() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.plugins.interfaces.SearchSpace` classes."""


@hookspec
def prunecast_pruners() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.plugins.interfaces.Pruner` classes."""


@hookspec
def prunecast_evaluators() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.plugins.interfaces.Evaluator` classes."""


@hookspec
def prunecast_predictors() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.plugins.interfaces.Predictor` classes."""


@hookspec
def prunecast_searchers() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.plugins.interfaces.Searcher` classes."""


@hookspec
def prunecast_exporters() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.plugins.exporter.Exporter` classes."""


@hookspec
def prunecast_executors() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.plugins.executor.Executor` classes."""


# Hooks for listeners. They are called in the process and thread of the run, in the order of the events; return values
# are ignored. A hook that raises causes a warning with the name of its distribution, and is disabled for the rest of
# the run.


@hookspec
def prunecast_run_started(event: RunStarted) -> None:
    """Called once, before any measurement."""


@hookspec
def prunecast_architecture_measured(event: ArchitectureMeasured) -> None:
    """Called for every architecture and evaluator, also for metrics found in the registry, so it has to be fast."""


@hookspec
def prunecast_predictor_fitted(event: PredictorFitted) -> None:
    """Called after the initial pairs and after every round."""


@hookspec
def prunecast_round_finished(event: RoundFinished) -> None:
    """Called after every round, before the predictor is refitted."""


@hookspec
def prunecast_run_finished(event: RunFinished) -> None:
    """Called once, also if the run fails or is interrupted; release resources here."""
