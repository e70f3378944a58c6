"""Evolutionary search on the predicted score, by mutations that move capacity between choices."""

import numpy as np
from pydantic import Field

from prunecast.plugins import Architecture, Indices, PluginOptions, Searcher, SearchProblem, shift_level, switch_levels
from prunecast_plugins.searchers.ranking import best_of, known_at_budget, random_at_budget, score


class EvolutionOptions(PluginOptions):
    """Options of the evolution searcher."""

    startup: int = Field(default=4000, ge=1, description="number of random architectures that are predicted first")
    survivors: int = Field(default=20, ge=1, description="number of parents of each generation")
    offspring: int = Field(default=200, ge=1, description="number of mutated architectures per generation")
    generations: int = Field(default=50, ge=1, description="number of generations")
    switches: int = Field(
        default=3, ge=1, description="maximum number of moves of a mutation; small numbers are more likely"
    )


class Evolution(Searcher[EvolutionOptions]):
    """EvoPress (arXiv 2410.14649, algorithm 1) with the predicted score as fitness and more than one survivor.

    A mutation consists of a few moves. Half of them are level switches: one choice moves a step down and another one of
    the same size a step up, so that the cost of the architecture is unchanged. The other half move a single choice, and
    the offspring is fitted to the budget afterwards; such moves exchange capacity between attention and MLPs. As in
    EvoPress, the number of moves is the smaller of two uniform draws. Parents compete with their offspring.
    """

    options_model = EvolutionOptions

    @property
    def evaluations(self) -> int:
        """Number of startup architectures and of all offspring."""
        return self.options.startup + self.options.generations * self.options.offspring

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Startup sample, then generations."""
        parents = np.concatenate([random_at_budget(problem, self.options.startup), known_at_budget(problem)])
        architectures, fitness = score(problem, parents)
        scored = dict(zip(architectures, fitness.tolist(), strict=True))
        for _ in range(self.options.generations):
            parents, fitness = _select(parents, fitness, self.options.survivors)
            chosen = problem.rng.integers(len(parents), size=self.options.offspring)
            children = self._mutate(problem, parents[chosen])
            architectures, of_children = score(problem, children)
            scored |= dict(zip(architectures, of_children.tolist(), strict=True))
            parents, fitness = np.concatenate([parents, children]), np.concatenate([fitness, of_children])
        return best_of(scored.items(), count)

    def _mutate(self, problem: SearchProblem, parents: Indices) -> Indices:
        """Offspring of shape (N, C), one per parent."""
        choices, rng = problem.space.choices, problem.rng
        children = parents.copy()
        switches = rng.integers(1, self.options.switches + 1, size=(2, len(parents))).min(axis=0)
        for child, count in zip(children, switches, strict=True):
            for _ in range(count):
                move = switch_levels if rng.random() < 0.5 else shift_level
                move(child, choices, rng)
        return problem.budget.fit(choices, children, rng)


def _select(indices: Indices, fitness: np.ndarray, count: int) -> tuple[Indices, np.ndarray]:
    """The ``count`` best distinct rows and their fitness."""
    order = np.argsort(fitness, kind="stable")
    _, first = np.unique(indices[order], axis=0, return_index=True)
    best = order[np.sort(first)[:count]]
    return indices[best], fitness[best]
