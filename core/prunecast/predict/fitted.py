"""A predictor that has been fitted on all measured architectures, together with the objective it predicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.plugins.interfaces import Predictor
from prunecast.predict.taylor_expansion import ExpandedPredictor, TaylorExpansion
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Metrics, Objective
from prunecast.problem.problem import Problem


@dataclass(frozen=True)
class Fitted:
    """A fitted predictor of the M metrics of an objective."""

    predictor: Predictor[Any]
    objective: Objective

    @classmethod
    def on(cls, measured: Measured, predictor: Predictor[Any]) -> "Fitted":
        """The given predictor, fitted on all measured architectures."""
        predictor.fit(measured.architectures, measured.targets)
        return cls(predictor, measured.objective)

    def score(self, architectures: Sequence[Architecture]) -> Floats:
        """Predicted objective, shape (N,); smaller is better."""
        return self.objective.score(self.predictor.predict(architectures).mean)

    def bounds(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the predicted objective, both of shape (N,)."""
        mean, std = self.predictor.predict(architectures)
        return self.objective.score(mean), self.objective.uncertainty(std)

    def bound(self, architectures: Sequence[Architecture], kappa: float) -> Floats:
        """Lower confidence bound of the objective, shape (N,): ``kappa`` standard deviations below the mean."""
        mean, std = self.bounds(architectures)
        return mean - kappa * std

    def predictions(self, architectures: Sequence[Architecture]) -> tuple[list[Metrics], list[Metrics]]:
        """Predicted metrics by name, and the standard deviation of each on the scale that predictors learn."""
        if not architectures:
            return [], []
        mean, std = self.predictor.predict(architectures)
        names = [metric.name for metric in self.objective.metrics]
        return self.objective.metrics_of(mean), [dict(zip(names, row, strict=True)) for row in std.tolist()]


def fit(problem: Problem, measured: Measured, expansions: Sequence[TaylorExpansion] = ()) -> Fitted:
    """Fit the spec's predictor on all measured architectures or, given Taylor expansions, on their remainders.

    A remainder is specific to one model, so the predictor of remainders learns nothing from other models.
    """
    if expansions:
        remainder = problem.new_predictor(problem.shape)
        predictor: Predictor[Any] = ExpandedPredictor(expansions, remainder, problem.shape)
    else:
        predictor = problem.predictor()
    return Fitted.on(measured, predictor)
