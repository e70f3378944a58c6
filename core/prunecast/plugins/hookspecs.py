'''The contract third parties implement: one hook a kind of plugin.

A plugin is a module named by an entry point of the group ``prunecast``. Its hooks hand over entries; what an entry's
class has to do is written in :mod:`prunecast.plugins.interfaces`::

    # my_package/prunecast_plugin.py
    from prunecast.plugins.hookspecs import Entry, hookimpl

    PRUNECAST_CONTRACT = 1

    @hookimpl
    def prunecast_predictors():
        """Ridge regression."""
        return [Entry("ridge", "my_package.ridge:Ridge", "Ridge regression on kept fractions")]

    # pyproject.toml
    [project.entry-points.prunecast]
    my_package = "my_package.prunecast_plugin"

``prunecast plugins new`` writes all of this. A file named by ``plugins:`` in a spec, or in a folder named by
``--plugin-dir``, needs no packaging; it writes targets of its own as ``f"{__name__}:Ridge"``.

When hooks are called
---------------------
The host imports the module when a command looks plugins up: once in every process, also for ``plugins list``, so import
nothing but :mod:`prunecast.plugins.hookspecs` there. It calls a hook without arguments, several times in a process, from the
main thread: be quick, keep no state, and return the same entries every time. A hook that raises, prints, exits, hangs
or hands over something else costs its own distribution a warning and nobody else anything. ``PRUNECAST_TRACE=1`` prints
every call.

What is promised
----------------
Public is what :data:`CONTRACT` covers: this module, :mod:`prunecast.plugins.interfaces`, :mod:`prunecast.testing`, and the
modules that docs/plugins-reference.md names. Within a contract nothing is taken away and nothing required is added: a
new hook, a new argument of a hook, or a new method with a default may appear at any time. What is to go is first
deprecated for at least two minor releases: the hook is specified with ``warn_on_impl``, an argument with
``warn_on_impl_args``, and the host tells the distribution's name and what to write instead when such a plugin is
loaded. Then :data:`CONTRACT` is raised, and :data:`OLDEST_CONTRACT` says which plugins still load.
'''

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pluggy

from prunecast.plugins.events import ArchitectureMeasured, PredictorFitted, RoundFinished, RunFinished, RunStarted

CONTRACT = 1
"""The contract that this version keeps. A plugin module may state the one it was written for as
``PRUNECAST_CONTRACT``."""

OLDEST_CONTRACT = 1
"""The oldest contract whose plugins still work."""

hookspec = pluggy.HookspecMarker("prunecast")
hookimpl = pluggy.HookimplMarker("prunecast")


@dataclass(frozen=True)
class Trial:
    """How ``prunecast plugins check`` tries a plugin.

    Attributes:
        options: options that make it quick, and that have no default.
        expected_failures: laws of :mod:`prunecast.testing` that it cannot keep, each with the reason.
        requires: modules that it needs and its distribution does not install; without them most laws do not apply.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What a hook hands over for one plugin.

    Attributes:
        name: what a spec writes after ``use:``. Unique among all installed plugins of the kind.
        target: ``module:Class``, imported only when a spec or ``plugins show`` asks for it.
        summary: one line for ``prunecast plugins list``.
        reference: paper or source the plugin implements, with equation or section; may be empty.
        trial: how ``prunecast plugins check`` tries it.
    """

    name: str
    target: str
    summary: str
    reference: str = ""
    trial: Trial = Trial()


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


# A plugin may also follow runs. These hooks are called in the process that runs, from the thread that runs, in the
# order in which things happen; what they return is ignored. One that raises costs a warning that names its
# distribution, and is not called again in that run.


@hookspec
def prunecast_run_started(event: RunStarted) -> None:
    """Called once, before anything is measured."""


@hookspec
def prunecast_architecture_measured(event: ArchitectureMeasured) -> None:
    """Called for every architecture and evaluator, also for numbers that the registry had: be quick."""


@hookspec
def prunecast_predictor_fitted(event: PredictorFitted) -> None:
    """Called after the pairs and after every round."""


@hookspec
def prunecast_round_finished(event: RoundFinished) -> None:
    """Called after every round, before the predictor is fitted again."""


@hookspec
def prunecast_run_finished(event: RunFinished) -> None:
    """Called once, also if the run fails or is interrupted: close here what was opened."""
