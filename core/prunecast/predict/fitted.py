"""The fitting stage: a predictor on all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.measure.setup import Setup
from prunecast.plugins.interfaces import Predictor
from prunecast.predict.taylor_expansion import Expanded, Expansion
from prunecast.problem.objective import Metrics, Objective


@dataclass(frozen=True)
class Fitted:
    """A predictor fitted on all pairs, with its objective."""

    predictor: Predictor[Any]
    objective: Objective

    def score(self, architectures: Sequence[Architecture]) -> Floats:
        """Predicted objective, shape (N,); smaller is better."""
        return self.objective.score(self.predictor.predict(architectures).mean)

    def bounds(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Predicted objective and its standard deviation, both of shape (N,)."""
        mean, std = self.predictor.predict(architectures)
        return self.objective.score(mean), self.objective.uncertainty(std)

    def bound(self, architectures: Sequence[Architecture], width: float) -> Floats:
        """Lower confidence bound of the objective, shape (N,): ``width`` standard deviations below the mean."""
        mean, std = self.bounds(architectures)
        return mean - width * std

    def predictions(self, architectures: Sequence[Architecture]) -> tuple[list[Metrics], list[Metrics]]:
        """Predicted metrics by name, and the standard deviation of each on the scale that predictors learn."""
        if not architectures:
            return [], []
        mean, std = self.predictor.predict(architectures)
        names = [metric.name for metric in self.objective.metrics]
        return self.objective.metrics_of(mean), [dict(zip(names, row, strict=True)) for row in std.tolist()]


def fit(setup: Setup, pairs: Mapping[Architecture, Metrics], expansions: Sequence[Expansion] = ()) -> Fitted:
    """Fit the spec's predictor on all pairs or, given expansions, on what they miss of the pairs.

    What they miss is this model's own, so pairs of other models teach nothing of it.
    """
    if expansions:
        predictor: Predictor[Any] = Expanded(expansions, setup.cold_predictor(setup.shape), setup.shape)
    else:
        predictor = setup.new_predictor()
    predictor.fit(list(pairs), setup.objective.targets(list(pairs.values())))
    return Fitted(predictor, setup.objective)
