"""A searcher: repeated small changes of the architectures with the best predicted scores."""

import numpy as np
from pydantic import Field

from prunecast.plugins import (
    Architecture,
    Indices,
    PluginOptions,
    Searcher,
    SearchProblem,
    architectures_at,
)


class ClimbOptions(PluginOptions):
    """Options of the searcher."""

    generations: int = Field(default=20, ge=1, description="number of generations after the random sample")
    children: int = Field(default=100, ge=1, description="architectures predicted per generation")
    parents: int = Field(default=10, ge=1, description="number of best architectures that are changed")


class Climb(Searcher[ClimbOptions]):
    """Hill climbing from a random sample: each child changes about one choice in ten of its parent by one step.

    Children are fitted to the boundary of the budget before they are predicted.
    """

    options_model = ClimbOptions

    @property
    def evaluations(self) -> int:
        """Size of the random sample plus the number of all children."""
        return (self.options.generations + 1) * self.options.children

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """The ``count`` architectures with the best predicted scores of all generations."""
        scored: dict[Architecture, tuple[float, list[int]]] = {}
        indices = problem.space.sample(self.options.children, problem.rng)
        for _ in range(self.options.generations + 1):
            scored |= self._scored(problem, problem.budget.fit(problem.space.choices, indices, problem.rng))
            indices = self._children(problem, scored)
        return _best_first(scored)[:count]

    def _scored(self, problem: SearchProblem, indices: Indices) -> dict[Architecture, tuple[float, list[int]]]:
        architectures = architectures_at(problem.space.choices, problem.space.shape.dense, indices)
        scores = problem.score(architectures).tolist()
        problem.progress(len(architectures))
        return dict(zip(architectures, zip(scores, indices.tolist(), strict=True), strict=True))

    def _children(self, problem: SearchProblem, scored: dict[Architecture, tuple[float, list[int]]]) -> Indices:
        best = np.array([scored[a][1] for a in _best_first(scored)[: self.options.parents]], dtype=np.int64)
        parents = best[problem.rng.integers(len(best), size=self.options.children)]
        steps = problem.rng.choice([-1, 1], size=parents.shape) * (problem.rng.random(parents.shape) < 0.1)
        tops = np.array([len(choice.values) - 1 for choice in problem.space.choices])
        children: Indices = np.clip(parents + steps, 0, tops)
        return children


def _best_first(scored: dict[Architecture, tuple[float, list[int]]]) -> list[Architecture]:
    return sorted(scored, key=lambda architecture: (scored[architecture][0], architecture.key))
