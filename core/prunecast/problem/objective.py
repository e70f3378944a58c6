"""The objective: several metrics as one number to minimise, and the scale on which predictors learn them.

Notation:
    y_nm   metric m of architecture n; the target t_nm is log y_nm if the scale of m is ``log``, else y_nm
    s_m    1 if smaller is better, -1 otherwise
    w_m    weight of metric m, at least 0

    score_n = sum_m w_m s_m t_nm, smaller is better
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunecast.architecture.architecture import Floats
from prunecast.errors import EvaluationError, did_you_mean
from prunecast.plugins.interfaces import Metric

Metrics = dict[str, float]
"""Metrics of one architecture by name."""


@dataclass(frozen=True)
class Objective:
    """Weighted sum of metrics, each on its target scale and turned so that smaller is better.

    Attributes:
        metrics: the M metrics, in the order of the targets' columns.
        weights: weight of each metric, at least 0.
    """

    metrics: tuple[Metric, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, metrics: Sequence[Metric], wanted: Mapping[str, float] | None) -> "Objective":
        """Objective of a spec. ``None`` weighs all metrics equally. Raises EvaluationError for an unknown metric."""
        names = [metric.name for metric in metrics]
        for name in wanted or ():
            if name not in names:
                raise EvaluationError(f"objective: no evaluator measures {name!r}{did_you_mean(name, names)}")
        weights = [1.0 if wanted is None else wanted.get(name, 0.0) for name in names]
        return cls(tuple(metrics), tuple(weights))

    def targets(self, measured: Sequence[Mapping[str, float]]) -> Floats:
        """Metrics of N architectures on the scale predictors learn, shape (N, M)."""
        values = np.array([[row[metric.name] for metric in self.metrics] for row in measured], dtype=np.float64)
        logarithmic = np.array([metric.scale == "log" for metric in self.metrics])
        return np.where(logarithmic, np.log(np.where(logarithmic, values, 1.0)), values)

    def metrics_of(self, targets: Floats) -> list[dict[str, float]]:
        """Inverse of :meth:`targets`: metrics by name, one mapping an architecture."""
        scales = [np.exp if metric.scale == "log" else float for metric in self.metrics]
        names = [metric.name for metric in self.metrics]
        return [{n: float(f(v)) for n, f, v in zip(names, scales, row, strict=True)} for row in targets]

    @property
    def signs(self) -> Floats:
        """1 for each metric of which less is better, -1 for the others, shape (M,)."""
        return np.array([1.0 if metric.direction == "minimize" else -1.0 for metric in self.metrics])

    def score(self, targets: Floats) -> Floats:
        """One number an architecture, shape (N,); smaller is better."""
        return np.asarray(targets @ (self.signs * np.array(self.weights)), dtype=np.float64)

    def uncertainty(self, std: Floats) -> Floats:
        """Standard deviation of :meth:`score`, shape (N,), from those of the targets, shape (N, M).

        Errors are assumed perfectly correlated, so standard deviations add.
        """
        return np.asarray(std @ np.array(self.weights), dtype=np.float64)
