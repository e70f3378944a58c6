"""The contract third parties implement: one hook a kind of plugin.

A plugin is a module named by an entry point of the group ``prunecast``. Its hooks hand over entries; what an entry's
class has to do is written in :mod:`prunecast.interfaces`. A hook is called whenever plugins of its kind are looked up:
be quick, and return the same entries every time::

    # my_package/prunecast_plugin.py
    from prunecast.hookspecs import Entry, hookimpl

    @hookimpl
    def prunecast_predictors():
        return [Entry("ridge", "my_package.ridge:Ridge", "Ridge regression on kept fractions")]

    # pyproject.toml
    [project.entry-points.prunecast]
    my_package = "my_package.prunecast_plugin"
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pluggy

from prunecast.events import ArchitectureMeasured, PredictorFitted, RoundFinished, RunFinished, RunStarted

hookspec = pluggy.HookspecMarker("prunecast")
hookimpl = pluggy.HookimplMarker("prunecast")


@dataclass(frozen=True)
class Entry:
    """What a hook hands over for one plugin.

    Attributes:
        name: what a spec writes after ``use:``. Unique among all installed plugins of the kind.
        target: ``module:Class``, imported only when a spec or ``plugins show`` asks for it.
        summary: one line for ``prunecast plugins list``.
        reference: paper or source the plugin implements, with equation or section; may be empty.
    """

    name: str
    target: str
    summary: str
    reference: str = ""


@hookspec
def prunecast_search_spaces() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.interfaces.SearchSpace` classes."""


@hookspec
def prunecast_pruners() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.interfaces.Pruner` classes."""


@hookspec
def prunecast_evaluators() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.interfaces.Evaluator` classes."""


@hookspec
def prunecast_predictors() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.interfaces.Predictor` classes."""


@hookspec
def prunecast_searchers() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Entries of :class:`prunecast.interfaces.Searcher` classes."""


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
