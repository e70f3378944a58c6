"""Random search on the predicted score."""

import numpy as np
from pydantic import Field

from prunecast.plugins import Architecture, PluginOptions, Searcher, SearchProblem
from prunecast_plugins.searchers.ranking import best_of, known_at_budget, random_at_budget, score


class RandomOptions(PluginOptions):
    """Options of the random searcher."""

    samples: int = Field(default=10000, ge=1, description="number of random architectures that are predicted")


class Random(Searcher[RandomOptions]):
    """The paper's search (arXiv 2309.09507, section 3.4): the best predicted of many random architectures."""

    options_model = RandomOptions

    @property
    def evaluations(self) -> int:
        """The number of samples."""
        return self.options.samples

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Best predicted of the samples and of the known architectures."""
        indices = np.concatenate([random_at_budget(problem, self.options.samples), known_at_budget(problem)])
        architectures, scores = score(problem, indices)
        return best_of(zip(architectures, scores.tolist(), strict=True), count)
