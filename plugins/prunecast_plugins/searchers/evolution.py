"""Evolutionary search on the predicted score, by mutations that move capacity between choices."""

import numpy as np
from pydantic import Field

from prunecast.plugins import Architecture, PluginOptions, Searcher, SearchProblem
from prunecast_plugins.searchers.moves import mutated, select
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

    A mutation consists of a few moves (:func:`~prunecast_plugins.searchers.moves.mutated`). Parents compete with their
    offspring.
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
            parents, fitness = select(parents, fitness, self.options.survivors)
            chosen = problem.rng.integers(len(parents), size=self.options.offspring)
            children = mutated(problem, parents[chosen], self.options.switches)
            architectures, of_children = score(problem, children)
            scored |= dict(zip(architectures, of_children.tolist(), strict=True))
            parents, fitness = np.concatenate([parents, children]), np.concatenate([fitness, of_children])
        return best_of(scored.items(), count)
