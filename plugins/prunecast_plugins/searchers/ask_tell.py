"""Searchers that ask an Optuna sampler for architectures and tell it what the predictor says of them."""

import warnings
from abc import abstractmethod
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

OVER_BUDGET = "over_budget"

LEARNS_FROM_ANY_TRIAL = ("TPESampler", "GPSampler")
"""Samplers that fit a model to all finished trials, no matter who proposed them."""

KNOWS_CONSTRAINTS = (*LEARNS_FROM_ANY_TRIAL, "NSGAIISampler", "NSGAIIISampler")
"""Samplers that read a trial's constraints (:meth:`optuna.trial.Trial.set_constraint`)."""


class AskTellOptions(PluginOptions):
    """Options of every searcher that asks an Optuna sampler."""

    trials: int = Field(default=1000, ge=1, description="architectures proposed by the sampler")
    startup: int = Field(default=4000, ge=1, description="random architectures predicted first")
    seeds: int = Field(default=100, ge=1, description="best predicted of the startup that the sampler starts from")
    batch: int = Field(default=25, ge=1, description="trials asked for at once, then predicted together")


AskTellOptionsT = TypeVar("AskTellOptionsT", bound=AskTellOptions)


class AskTell(Searcher[AskTellOptionsT]):
    """Batched ask and tell, from the best predicted of a large random sample and of what has been measured.

    Each choice is an integer parameter, the position in its ascending values, so that neighbours inform each other. A
    sampler that knows constraints is told what it proposed, with the budget as a constraint, and so learns where the
    budget is; every other one is told the score of what its proposal becomes when it is brought to the budget. Only
    architectures that meet the budget are returned.
    """

    @abstractmethod
    def sampler(self, seed: int) -> "BaseSampler":
        """A fresh sampler. Called once a search."""

    @property
    def evaluations(self) -> int:
        """Startup and trials."""
        return self.options.startup + self.options.trials

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Startup sample, then batched ask and tell."""
        import optuna

        start = np.concatenate([random_at_budget(problem, self.options.startup), known_at_budget(problem)])
        architectures, scores = score(problem, start)
        scored = dict(zip(architectures, scores.tolist(), strict=True))
        best = np.argsort(scores, kind="stable")[: self.options.seeds]
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            for notice in (FutureWarning, optuna.exceptions.ExperimentalWarning):
                warnings.simplefilter("ignore", category=notice)
            study = optuna.create_study(sampler=self.sampler(int(problem.rng.integers(2**31))))
            _start(study, problem, start[best], scores[best])
            for first in range(0, self.options.trials, self.options.batch):
                scored |= _ask_and_tell(study, problem, min(self.options.batch, self.options.trials - first))
        return best_of(scored.items(), count)


def _start(study: "Study", problem: SearchProblem, indices: Indices, scores: Floats) -> None:
    """Show a sampler where to start: as finished trials if it learns from those, else as its first proposals."""
    import optuna

    distributions = _distributions(problem)
    for row, value in zip(indices.tolist(), scores.tolist(), strict=True):
        params = dict(zip(distributions, row, strict=True))
        if type(study.sampler).__name__ in LEARNS_FROM_ANY_TRIAL:
            met = {OVER_BUDGET: 0.0}
            study.add_trial(
                optuna.create_trial(params=params, distributions=distributions, value=value, constraints=met)
            )
        else:
            study.enqueue_trial(params)


def _ask_and_tell(study: "Study", problem: SearchProblem, size: int) -> dict[Architecture, float]:
    """One batch; returns the scores of all architectures in it that meet the budget."""
    distributions = _distributions(problem)
    trials = [study.ask(distributions) for _ in range(size)]
    asked = np.array([[trial.params[name] for name in distributions] for trial in trials], dtype=np.int64)
    met: dict[Architecture, float] = {}
    if knows := type(study.sampler).__name__ in KNOWS_CONSTRAINTS:
        met = _tell_as_asked(study, problem, trials, asked)
    repaired = problem.budget.fit(problem.space.choices, asked, problem.rng)
    architectures, scores = score(problem, repaired)
    if not knows:
        for trial, value in zip(trials, scores.tolist(), strict=True):
            study.tell(trial, value)
    return met | dict(zip(architectures, scores.tolist(), strict=True))


def _tell_as_asked(
    study: "Study", problem: SearchProblem, trials: "list[Trial]", asked: Indices
) -> dict[Architecture, float]:
    """Tell what was proposed, with how far it is over the budget; returns what of it meets the budget."""
    usage: NDArray[np.float64] = problem.budget.usage(sizes_at(problem.space.choices, problem.space.shape.dense, asked))
    told, scores = score(problem, asked)
    for trial, used, value in zip(trials, usage.tolist(), scores.tolist(), strict=True):
        trial.set_constraint(OVER_BUDGET, used - 1)
        study.tell(trial, value)
    return {a: s for a, s, used in zip(told, scores.tolist(), usage.tolist(), strict=True) if used <= 1}


def _distributions(problem: SearchProblem) -> "dict[str, BaseDistribution]":
    from optuna.distributions import IntDistribution

    return {choice.name: IntDistribution(0, len(choice.values) - 1) for choice in problem.space.choices}
