"""Random search over the prediction."""

import numpy as np
from pydantic import Field

from prunecast.plugins import Architecture, PluginOptions, Searcher, SearchProblem
from prunecast_plugins.searchers.ranking import best_of, known_at_budget, random_at_budget, score


class RandomOptions(PluginOptions):
    """Options of the random searcher."""

    samples: int = Field(default=10000, ge=1, description="random architectures to predict")


class Random(Searcher[RandomOptions]):
    """The paper's search (arXiv 2309.09507, section 3.4): predict many random architectures, keep the best."""

    options_model = RandomOptions

    @property
    def evaluations(self) -> int:
        """The number of samples."""
        return self.options.samples

    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Best predicted of the samples and of what is known."""
        indices = np.concatenate([random_at_budget(problem, self.options.samples), known_at_budget(problem)])
        architectures, scores = score(problem, indices)
        return best_of(zip(architectures, scores.tolist(), strict=True), count)
