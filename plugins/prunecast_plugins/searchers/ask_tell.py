"""Searchers by ask and tell with an Optuna sampler: it proposes architectures and gets their predicted scores."""

import logging
import warnings
from abc import abstractmethod
from threading import Event
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast.plugins import Architecture, Floats, Indices, PluginOptions, Searcher, SearchProblem, sizes_at
from prunecast_plugins.searchers.ranking import best_of, known_at_budget, random_at_budget, score

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

_log = logging.getLogger(__name__)

OVER_BUDGET = "over_budget"

LEARNS_FROM_ANY_TRIAL = ("TPESampler", "GPSampler")
"""Samplers that fit a model to all finished trials, including those that they did not propose."""

KNOWS_CONSTRAINTS = (*LEARNS_FROM_ANY_TRIAL, "NSGAIISampler", "NSGAIIISampler")
"""Samplers that use the constraints of a trial (:meth:`optuna.trial.Trial.set_constraint`)."""

PROPOSES_ITS_OWN = ("GridSampler",)
"""Samplers that refuse proposals of others: they count which of their own have been tried."""


class AskTellOptions(PluginOptions):
    """Options of every searcher that asks an Optuna sampler."""

    trials: int = Field(default=1000, ge=1, description="number of architectures proposed by the sampler")
    startup: int = Field(default=4000, ge=1, description="number of random architectures that are predicted first")
    seeds: int = Field(
        default=100, ge=1, description="number of best predicted startup architectures given to the sampler"
    )
    batch: int = Field(default=25, ge=1, description="number of trials proposed, then predicted, at once")


AskTellOptionsT = TypeVar("AskTellOptionsT", bound=AskTellOptions)


class AskTell(Searcher[AskTellOptionsT]):
    """Batched ask and tell that starts from the best predicted of a large random sample and of the known architectures.

    Each choice is an integer parameter, the position in its ascending values, so that the sampler can generalise to
    neighbouring values. A sampler that supports constraints gets the score of its proposal as it is, with the excess
    over the budget as a constraint. Any other sampler gets the score of its proposal after that has been fitted to the
    budget. Only architectures that meet the budget are returned. A sampler that has proposed all of a small space ends
    the search before the last trial.
    """

    @abstractmethod
    def sampler(self, seed: int) -> "BaseSampler":
        """A fresh sampler. Called once per search."""

    @property
    def evaluations(self) -> int:
        """Number of startup architectures and trials."""
        return self.options.startup + self.options.trials

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Startup sample, then batched ask and tell."""
        import optuna

        start = np.concatenate([random_at_budget(problem, self.options.startup), known_at_budget(problem)])
        architectures, scores = score(problem, start)
        scored = dict(zip(architectures, scores.tolist(), strict=True))
        best = np.argsort(scores, kind="stable")[: self.options.seeds]
        # A sampler at the end of its space warns at each proposal.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            for notice in (FutureWarning, optuna.exceptions.ExperimentalWarning):
                warnings.simplefilter("ignore", category=notice)
            study = optuna.create_study(sampler=self.sampler(int(problem.rng.integers(2**31))))
            over = _when_stopped(study)
            _start(study, problem, start[best], scores[best])
            for first in range(0, self.options.trials, self.options.batch):
                if over.is_set():
                    tried = len({tuple(trial.params.values()) for trial in study.trials})
                    _log.warning("note: the space is exhausted: %s has tried all of %d proposals", _name(study), tried)
                    break
                scored |= _ask_and_tell(study, problem, min(self.options.batch, self.options.trials - first))
        return best_of(scored.items(), count)


def _name(study: "Study") -> str:
    return type(study.sampler).__name__


def _when_stopped(study: "Study") -> Event:
    """Event that is set when the sampler has nothing more to propose.

    Samplers tell that by :meth:`optuna.Study.stop`, which raises an error outside of :meth:`optuna.Study.optimize`.
    """
    over = Event()
    study.stop = over.set  # type: ignore[method-assign]
    return over


def _start(study: "Study", problem: SearchProblem, indices: Indices, scores: Floats) -> None:
    """Give a sampler the best startup architectures.

    Samplers in :data:`LEARNS_FROM_ANY_TRIAL` get them as finished trials, others as the first trials to ask for.
    Samplers in :data:`PROPOSES_ITS_OWN` get none, as they accept only their own proposals.

    Args:
        study: study of the sampler.
        problem: the search problem.
        indices: positions in the values of each choice, shape (N, C).
        scores: predicted scores, shape (N,).
    """
    import optuna

    if _name(study) in PROPOSES_ITS_OWN:
        return
    distributions = _distributions(problem)
    within_budget = {OVER_BUDGET: 0.0}  # the architectures were fitted to the budget
    for row, value in zip(indices.tolist(), scores.tolist(), strict=True):
        params = dict(zip(distributions, row, strict=True))
        if _name(study) in LEARNS_FROM_ANY_TRIAL:
            study.add_trial(
                optuna.create_trial(params=params, distributions=distributions, value=value, constraints=within_budget)
            )
        else:
            study.enqueue_trial(params)


def _ask_and_tell(study: "Study", problem: SearchProblem, size: int) -> dict[Architecture, float]:
    """One batch; returns the scores of all architectures in it that meet the budget."""
    distributions = _distributions(problem)
    trials = [study.ask(distributions) for _ in range(size)]
    asked = np.array([[trial.params[name] for name in distributions] for trial in trials], dtype=np.int64)
    met: dict[Architecture, float] = {}
    if constrained := _name(study) in KNOWS_CONSTRAINTS:
        met = _tell_with_constraints(study, problem, trials, asked)
    repaired = problem.budget.fit(problem.space.choices, asked, problem.rng)
    architectures, scores = score(problem, repaired)
    if not constrained:
        for trial, value in zip(trials, scores.tolist(), strict=True):
            study.tell(trial, value)
    return met | dict(zip(architectures, scores.tolist(), strict=True))


def _tell_with_constraints(
    study: "Study", problem: SearchProblem, trials: "list[Trial]", asked: Indices
) -> dict[Architecture, float]:
    """Report proposals with their excess over the budget as a constraint; returns those that meet the budget."""
    usage: NDArray[np.float64] = problem.budget.usage(sizes_at(problem.space.choices, problem.space.shape.dense, asked))
    architectures, scores = score(problem, asked)
    for trial, used, value in zip(trials, usage.tolist(), scores.tolist(), strict=True):
        trial.set_constraint(OVER_BUDGET, used - 1)
        study.tell(trial, value)
    return {a: s for a, s, used in zip(architectures, scores.tolist(), usage.tolist(), strict=True) if used <= 1}


def _distributions(problem: SearchProblem) -> "dict[str, BaseDistribution]":
    from optuna.distributions import IntDistribution

    return {choice.name: IntDistribution(0, len(choice.values) - 1) for choice in problem.space.choices}
