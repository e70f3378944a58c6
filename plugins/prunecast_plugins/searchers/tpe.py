"""Optuna's tree-structured Parzen estimator over the prediction."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from prunecast.architecture import Architecture
from prunecast.choices import Indices, sizes_at
from prunecast.interfaces import Floats, PluginOptions, Searcher, SearchProblem
from prunecast_plugins.searchers.ranking import best_of, known_at_budget, random_at_budget, score

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

OVER_BUDGET = "over_budget"


class TPEOptions(PluginOptions):
    """Options of the tpe searcher."""

    trials: int = Field(default=1000, ge=1, description="architectures proposed by TPE; cost grows with their square")
    startup: int = Field(default=4000, ge=1, description="random architectures predicted first")
    seeds: int = Field(default=100, ge=1, description="best predicted of the startup that TPE starts from")
    batch: int = Field(default=25, ge=1, description="trials asked for at once, then predicted together")
    multivariate: bool = Field(default=False, description="model choices jointly: better proposals, slower")


class TPE(Searcher[TPEOptions]):
    """Bergstra et al., Algorithms for hyper-parameter optimization (2011), section 4, as Optuna implements it.

    Each choice is an integer parameter, the position in its ascending values, so that neighbours inform each other. The
    budget is an Optuna constraint. TPE starts from the best predicted of a large random sample at the budget and of the
    architectures already measured. Proposals over the budget teach the sampler where it is, and are then brought to it.
    """

    options_model = TPEOptions

    @property
    def evaluations(self) -> int:
        """Startup and trials."""
        return self.options.startup + self.options.trials

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Startup sample, then batched ask and tell."""
        start = np.concatenate([random_at_budget(problem, self.options.startup), known_at_budget(problem)])
        architectures, scores = score(problem, start)
        scored = dict(zip(architectures, scores.tolist(), strict=True))
        best = np.argsort(scores, kind="stable")[: self.options.seeds]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)  # Optuna's own notices about experimental options
            study = self._study(problem, start[best], scores[best])
            for first in range(0, self.options.trials, self.options.batch):
                size = min(self.options.batch, self.options.trials - first)
                scored |= self._ask_and_tell(study, problem, size)
        return best_of(scored.items(), count)

    def _study(self, problem: SearchProblem, indices: Indices, scores: Floats) -> "Study":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(problem.rng.integers(2**31))
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=self.options.multivariate, n_startup_trials=0)
        study = optuna.create_study(sampler=sampler)
        distributions = _distributions(problem)
        for row, value in zip(indices.tolist(), scores.tolist(), strict=True):
            params = dict(zip(distributions, row, strict=True))
            met = {OVER_BUDGET: 0.0}
            trial = optuna.create_trial(params=params, distributions=distributions, value=value, constraints=met)
            study.add_trial(trial)
        return study

    def _ask_and_tell(self, study: "Study", problem: SearchProblem, size: int) -> dict[Architecture, float]:
        distributions = _distributions(problem)
        trials = [study.ask(distributions) for _ in range(size)]
        asked = np.array([[trial.params[name] for name in distributions] for trial in trials], dtype=np.int64)
        usage = problem.budget.usage(sizes_at(problem.space.choices, problem.space.shape.dense, asked))
        told, scores = score(problem, asked)
        for trial, used, value in zip(trials, usage.tolist(), scores.tolist(), strict=True):
            trial.set_constraint(OVER_BUDGET, used - 1)
            study.tell(trial, value)
        met = {a: s for a, s, used in zip(told, scores.tolist(), usage.tolist(), strict=True) if used <= 1}
        repaired = problem.budget.fit(problem.space.choices, asked, problem.rng)
        architectures, fitted = score(problem, repaired)
        return met | dict(zip(architectures, fitted.tolist(), strict=True))


def _distributions(problem: SearchProblem) -> "dict[str, BaseDistribution]":
    from optuna.distributions import IntDistribution

    return {choice.name: IntDistribution(0, len(choice.values) - 1) for choice in problem.space.choices}
