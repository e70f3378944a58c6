"""A searcher for prunecast: any optimiser of Nevergrad."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import numpy as np
from pydantic import Field

from prunecast.plugins import (
    Architecture,
    Entry,
    Floats,
    Indices,
    PluginError,
    PluginOptions,
    Searcher,
    SearchProblem,
    architectures_at,
    hookimpl,
    indices_of,
)


@hookimpl
def prunecast_searchers() -> list[Entry]:
    """Nevergrad's optimisers."""
    return [
        Entry(
            "nevergrad",
            "prunecast_nevergrad:Nevergrad",
            "Any optimiser of Nevergrad by name, with ask and tell in batches",
            "https://github.com/facebookresearch/nevergrad",
        )
    ]


class NevergradOptions(PluginOptions):
    """Options of the nevergrad searcher."""

    optimizer: str = Field(
        default="PortfolioDiscreteOnePlusOne", description="name in nevergrad.optimizers.registry, such as NGOpt"
    )
    trials: int = Field(default=1000, ge=1, description="number of architectures proposed by the optimiser")
    startup: int = Field(default=1000, ge=1, description="number of random architectures that are predicted first")
    seeds: int = Field(
        default=20, ge=1, description="number of best predicted startup architectures given to the optimiser"
    )
    batch: int = Field(default=20, ge=1, description="number of architectures proposed, then predicted, at once")


class Nevergrad(Searcher[NevergradOptions]):
    """Ask and tell with an optimiser of Nevergrad (Bennet et al., GECCO 2021).

    Each choice is a parameter with ordered values, so that a mutation moves to a neighbouring value. Proposals are
    fitted to the budget, and the optimiser gets the predicted score of the fitted architecture.
    """

    options_model = NevergradOptions

    @property
    def evaluations(self) -> int:
        """Number of startup architectures and trials."""
        return self.options.startup + self.options.trials

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Startup sample, then batches of ask and tell."""
        with _seeded(int(problem.rng.integers(2**31))):
            return self._search(problem, count)

    def _search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        found: dict[Architecture, float] = {}
        start = self._start(problem)
        scores = self._scored(problem, start, found)
        optimizer = self._optimizer(problem)
        for row in start[np.argsort(scores, kind="stable")[: self.options.seeds]].tolist():
            optimizer.suggest(*row)
        for first in range(0, self.options.trials, self.options.batch):
            asked = [optimizer.ask() for _ in range(min(self.options.batch, self.options.trials - first))]
            proposed = np.array([candidate.args for candidate in asked], dtype=np.int64)
            fitted = problem.budget.fit(problem.space.choices, proposed, problem.rng)
            for candidate, score in zip(asked, self._scored(problem, fitted, found), strict=True):
                optimizer.tell(candidate, float(score))
        ranked = sorted(found.items(), key=lambda pair: (pair[1], pair[0].key))
        return [architecture for architecture, _ in ranked[:count]]

    def _start(self, problem: SearchProblem) -> Indices:
        """Random architectures fitted to the budget, and the known ones that meet it: shape (N, C)."""
        choices, dense = problem.space.choices, problem.space.shape.dense
        drawn = problem.space.sample(self.options.startup, problem.rng)
        rows = [indices_of(choices, dense, known) for known in problem.known if problem.budget.met_by(known)]
        known = np.array([row for row in rows if row is not None], dtype=np.int64).reshape(-1, len(choices))
        return np.concatenate([problem.budget.fit(choices, drawn, problem.rng), known])

    def _scored(self, problem: SearchProblem, indices: Indices, found: dict[Architecture, float]) -> Floats:
        """Scores of shape (N,), which are also added to ``found``."""
        architectures = architectures_at(problem.space.choices, problem.space.shape.dense, indices)
        scores = problem.score(architectures)
        problem.progress(len(architectures))
        found.update(zip(architectures, scores.tolist(), strict=True))
        return scores

    def _optimizer(self, problem: SearchProblem):
        import nevergrad

        known = nevergrad.optimizers.registry
        if self.options.optimizer not in known:
            near = get_close_matches(self.options.optimizer, known, n=1)
            guess = f" (did you mean {near[0]!r}?)" if near else ""
            raise PluginError(f"nevergrad has no optimiser {self.options.optimizer!r}{guess}")
        values = [range(len(choice.values)) for choice in problem.space.choices]
        space = nevergrad.p.Instrumentation(*(nevergrad.p.TransitionChoice(each) for each in values))
        space.random_state = np.random.RandomState(problem.rng.integers(2**31))
        return known[self.options.optimizer](space, budget=self.options.trials, num_workers=self.options.batch)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, from which Nevergrad also draws, and restore their states afterwards."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
