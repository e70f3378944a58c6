"""Measured architectures with their metrics: what predictors learn from and what is ranked."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats, sizes_of
from prunecast.architecture.budget import Budget
from prunecast.plugins.interfaces import Metric
from prunecast.problem.objective import Metrics, Objective
from prunecast.registry.queries.pairs import Pairs


@dataclass(frozen=True)
class Measured:
    """N measured architectures, all with the M metrics of an objective.

    Attributes:
        objective: the metrics, their scales and their weights.
        metrics: metrics by name of each architecture, in the order they were measured.
    """

    objective: Objective
    metrics: Mapping[Architecture, Metrics]

    @classmethod
    def of_pairs(cls, pairs: Pairs, weights: Mapping[str, float] | None = None) -> "Measured":
        """Pairs of a registry. ``weights`` are those of the objective by metric; None weighs all metrics equally.

        Raises:
            EvaluationError: a weight is of a metric that the pairs do not have.
        """
        columns = pairs.series.columns
        objective = Objective.of([Metric(c.metric, c.direction, c.unit, c.scale) for c in columns], weights)
        return cls(objective, dict(zip(pairs.architectures, pairs.metrics, strict=True)))

    def __len__(self) -> int:
        return len(self.metrics)

    @property
    def architectures(self) -> list[Architecture]:
        """The architectures, in the order they were measured."""
        return list(self.metrics)

    @cached_property
    def targets(self) -> Floats:
        """The metrics on the scale that predictors learn, shape (N, M)."""
        return self.objective.targets(list(self.metrics.values()))

    @cached_property
    def scores(self) -> Floats:
        """The objective of each architecture, shape (N,); smaller is better."""
        return self.objective.score(self.targets)

    def and_also(self, metrics: Mapping[Architecture, Metrics]) -> "Measured":
        """These and further measured architectures."""
        return Measured(self.objective, {**self.metrics, **metrics})

    def without(self, architectures: Collection[Architecture]) -> "Measured":
        """All but the given architectures."""
        return self.only(a for a in self.metrics if a not in architectures)

    def only(self, architectures: Iterable[Architecture]) -> "Measured":
        """The given architectures, all of them measured, in the order given."""
        return Measured(self.objective, {a: self.metrics[a] for a in architectures})

    def ranked(self, budget: Budget) -> list[Architecture]:
        """Architectures that meet a budget, best objective first, then by content key."""
        if not self.metrics:
            return []
        architectures, scores = self.architectures, self.scores.tolist()
        met = np.flatnonzero(budget.usage(sizes_of(architectures)) <= 1).tolist()
        return [architectures[i] for i in sorted(met, key=lambda i: (scores[i], architectures[i].key))]

    def best(self, budget: Budget) -> Architecture | None:
        """The best architecture that meets a budget; None if none does."""
        return next(iter(self.ranked(budget)), None)

    def relative_to(self, architecture: Architecture) -> Floats | None:
        """The targets less those of one architecture, shape (N, M); None if that one has not been measured."""
        if architecture not in self.metrics:
            return None
        return np.asarray(self.targets - self.targets[self.architectures.index(architecture)], dtype=np.float64)
