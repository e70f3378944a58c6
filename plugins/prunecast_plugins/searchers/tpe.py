"""Optuna's tree-structured Parzen estimator on the predicted score, with local moves."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from prunecast.plugins import Architecture, Floats, Indices, Searcher, SearchProblem
from prunecast_plugins.searchers.ask_tell import AskTellOptions
from prunecast_plugins.searchers.moves import mutated, select
from prunecast_plugins.searchers.ranking import best_of, known_at_budget, random_at_budget, score

if TYPE_CHECKING:
    from optuna import Study

MOVES = 3
"""Maximum number of moves of a mutation."""


class TPEOptions(AskTellOptions):
    """Options of the tpe searcher; its time grows in proportion to the number of trials."""

    trials: int = Field(default=50, ge=1, description="number of architectures proposed by the sampler")
    startup: int = Field(default=1000, ge=1, description="number of random architectures that are predicted first")
    seeds: int = Field(default=100, ge=1, description="number of best architectures that the sampler learns from")
    batch: int = Field(default=5, ge=1, description="number of trials proposed, then predicted, at once")
    multivariate: bool = Field(default=True, description="true: model all choices jointly; false: each by itself")
    steps: int = Field(default=5, ge=0, description="number of steps of local moves after each batch of trials")
    offspring: int = Field(default=200, ge=1, description="number of mutated architectures in a step")
    parents: int = Field(default=20, ge=1, description="number of best architectures that are mutated in a step")


class TPE(Searcher[TPEOptions]):
    """Bergstra et al., Algorithms for hyper-parameter optimization (2011), section 4, as Optuna implements it.

    The search starts from the best predicted of a large random sample and of the known architectures. It alternates
    batches of TPE's proposals, fitted to the budget, with steps of local moves around the best of all: TPE recombines
    what good architectures have in common, and the moves find the details. Each batch has a study of its own, which is
    told the best architectures so far, as finished trials; so its cost does not grow with the search. The range of a
    choice is the one that these architectures span, a level wider on both sides: TPE's kernels have a width in
    proportion to the range, and become narrower as the search converges.
    """

    options_model = TPEOptions

    @property
    def evaluations(self) -> int:
        """Number of startup architectures, of trials and of all offspring."""
        batches = -(-self.options.trials // self.options.batch)
        return self.options.startup + self.options.trials + batches * self.options.steps * self.options.offspring

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Startup sample, then batches of proposals and steps of local moves in turn."""
        scored: dict[Architecture, float] = {}
        best, scores = np.empty((0, len(problem.space.choices)), dtype=np.int64), np.empty(0)

        def compare(rows: Indices) -> None:
            nonlocal best, scores
            architectures, of_rows = score(problem, rows)
            scored.update(zip(architectures, of_rows.tolist(), strict=True))
            together = np.concatenate([best, rows]), np.concatenate([scores, of_rows])
            best, scores = select(*together, self.options.seeds)

        compare(np.concatenate([random_at_budget(problem, self.options.startup), known_at_budget(problem)]))
        for first in range(0, self.options.trials, self.options.batch):
            size = min(self.options.batch, self.options.trials - first)
            compare(self._proposed(problem, best, scores, size))
            for _ in range(self.options.steps):
                chosen = problem.rng.integers(min(len(best), self.options.parents), size=self.options.offspring)
                compare(mutated(problem, best[chosen], MOVES))
        return best_of(scored.items(), count)

    def _proposed(self, problem: SearchProblem, told: Indices, scores: Floats, size: int) -> Indices:
        """Proposals of a sampler that has been told architectures and their scores, fitted to the budget."""
        import optuna
        from optuna.distributions import BaseDistribution, IntDistribution

        choices = problem.space.choices
        tops = np.array([len(choice.values) - 1 for choice in choices])
        lows, highs = np.maximum(told.min(axis=0) - 1, 0), np.minimum(told.max(axis=0) + 1, tops)
        ranges: dict[str, BaseDistribution] = {
            choice.name: IntDistribution(low, high)
            for choice, low, high in zip(choices, lows.tolist(), highs.tolist(), strict=True)
        }
        study = self._study(int(problem.rng.integers(2**31)))
        study.add_trials(
            optuna.create_trial(params=dict(zip(ranges, row, strict=True)), distributions=ranges, value=value)
            for row, value in zip(told.tolist(), scores.tolist(), strict=True)
        )
        trials = [study.ask(ranges) for _ in range(size)]
        asked = np.array([[trial.params[name] for name in ranges] for trial in trials], dtype=np.int64)
        return problem.budget.fit(choices, asked, problem.rng)

    def _study(self, seed: int) -> "Study":
        """An empty study whose sampler has no random trials of its own, which the startup sample replaces.

        Without the constant liar, its trials are sorted once and not for every proposal.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed, multivariate=self.options.multivariate, n_startup_trials=0, constant_liar=False
            )
        return optuna.create_study(sampler=sampler)
