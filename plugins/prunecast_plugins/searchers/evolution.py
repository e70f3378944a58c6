"""Evolution over the prediction, by moving what is kept from one choice to another."""

import numpy as np
from pydantic import Field

from prunecast.plugins import Architecture, Indices, PluginOptions, Searcher, SearchProblem, shift_level, switch_levels
from prunecast_plugins.searchers.ranking import best_of, known_at_budget, random_at_budget, score


class EvolutionOptions(PluginOptions):
    """Options of the evolution searcher."""

    startup: int = Field(default=4000, ge=1, description="random architectures predicted first")
    survivors: int = Field(default=20, ge=1, description="architectures that each generation descends from")
    offspring: int = Field(default=200, ge=1, description="mutated architectures a generation")
    generations: int = Field(default=50, ge=1, description="how often to mutate and select")
    switches: int = Field(default=3, ge=1, description="most moves of a mutation; few are likelier than many")


class Evolution(Searcher[EvolutionOptions]):
    """EvoPress (arXiv 2410.14649, algorithm 1) with a predictor as the fitness, and more than one survivor.

    A mutation is a few moves, half of them level switches: one choice keeps a step less, another one of equal size a
    step more, so what the architecture costs stays as it is. The other half move one choice alone, and the offspring is
    brought back to the budget, which is how attention and MLPs exchange what they keep. As in EvoPress the number of
    moves is the smaller of two draws. Parents compete with their offspring.
    """

    options_model = EvolutionOptions

    @property
    def evaluations(self) -> int:
        """Startup and all offspring."""
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
        """Offspring of shape (N, C), one a parent."""
        choices, rng = problem.space.choices, problem.rng
        children = parents.copy()
        switches = rng.integers(1, self.options.switches + 1, size=(2, len(parents))).min(axis=0)
        for child, count in zip(children, switches, strict=True):
            for _ in range(count):
                move = switch_levels if rng.random() < 0.5 else shift_level
                move(child, choices, rng)
        return problem.budget.fit(choices, children, rng)


def _select(indices: Indices, fitness: np.ndarray, count: int) -> tuple[Indices, np.ndarray]:
    """The ``count`` best different rows and their fitness."""
    order = np.argsort(fitness, kind="stable")
    _, first = np.unique(indices[order], axis=0, return_index=True)
    best = order[np.sort(first)[:count]]
    return indices[best], fitness[best]
