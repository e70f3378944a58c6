"""The quality card: scores of a predictor on held-out pairs, those of the paper and further ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.plugins.interfaces import Prediction, Predictor
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Objective

SPLITS = 10
HELD_OUT = 0.3
"""The paper's 7:3 split (arXiv 2309.09507, section 4), here averaged over several random ones."""

CURVE = (25, 50, 100, 200, 367)
"""Pairs a learning curve is taken at, as far as there are as many; the last is 70 % of the paper's 525."""

FEWEST_HELD_OUT = 3
MOST_TOP = 18
"""The paper measures the 18 best predicted (section 4)."""

LEVELS = np.linspace(0.05, 0.95, 19)
"""Probabilities of the central intervals at which calibration is evaluated."""


@dataclass(frozen=True)
class Scores:
    """Predictions against measurements of held-out pairs, mean over the splits. Targets are standardised.

    Attributes:
        r2: coefficient of determination, at most 1.
        mse, rmse, mae: mean squared, root mean squared and mean absolute error, in standard deviations (squared).
        kendall_tau, spearman_rho: rank correlations in [-1, 1]; 0 where all predictions are equal.
        regret: how much worse the best of the top predicted is than the best held-out pair, in standard deviations.
        coverage_68, coverage_95: share of the pairs within 1 and 1.96 predicted standard deviations; 0.683 and 0.95 are
            right.
        calibration_error: mean absolute difference between the probability of a central interval and the share of the
            pairs in it (Kuleshov et al., arXiv 1807.00263, section 3.5, with absolute differences), in [0, 1].
    """

    r2: float
    mse: float
    rmse: float
    mae: float
    kendall_tau: float
    spearman_rho: float
    regret: float
    coverage_68: float
    coverage_95: float
    calibration_error: float

    @classmethod
    def mean(cls, several: Sequence["Scores"]) -> Self:
        """Mean of each score. The overall RMSE of several metrics is therefore a mean of roots, as in the paper."""
        return cls(**{f.name: float(np.mean([getattr(s, f.name) for s in several])) for f in fields(cls)})


@dataclass(frozen=True)
class CurvePoint:
    """Quality from ``pairs`` pairs: ``r2`` is the mean over the metrics, ``kendall_tau`` that of the objective."""

    pairs: int
    r2: float
    kendall_tau: float


@dataclass(frozen=True)
class HeldOut:
    """One split's held-out pairs in one metric, on the scale predictors learn; lists of equal length."""

    measured: tuple[float, ...]
    predicted: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class QualityCard:
    """Scores of a predictor on a set of pairs.

    Attributes:
        predictor: its name.
        pairs: number of pairs in all.
        held_out: how many of them each split holds out.
        splits: number of random splits.
        top: best predicted of the held-out pairs that ``regret`` lets measure.
        metrics: scores by name of the metric.
        objective: scores of the objective, which the search minimises.
        learning_curve: quality from fewer pairs, evaluated on the same held-out ones; empty if not asked for.
        first_split: predictions and measurements of the first split, by name of the metric.
    """

    predictor: str
    pairs: int
    held_out: int
    splits: int
    top: int
    metrics: dict[str, Scores]
    objective: Scores
    learning_curve: tuple[CurvePoint, ...]
    first_split: dict[str, HeldOut]

    @property
    def overall(self) -> Scores:
        """Mean over the metrics, as the paper reports its regression with several outputs."""
        return Scores.mean(list(self.metrics.values()))

    def to_json(self) -> dict[str, Any]:
        """JSON-able form; ``overall`` is spelled out."""
        return {**asdict(self), "overall": asdict(self.overall)}

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls(
            **{key: card[key] for key in ("predictor", "pairs", "held_out", "splits", "top")},
            metrics={name: Scores(**scores) for name, scores in card["metrics"].items()},
            objective=Scores(**card["objective"]),
            learning_curve=tuple(CurvePoint(**point) for point in card["learning_curve"]),
            first_split={
                name: HeldOut(**{k: tuple(v) for k, v in lists.items()}) for name, lists in card["first_split"].items()
            },
        )


def evaluate_predictor(
    name: str,
    new_predictor: Callable[[], Predictor[Any]],
    measured: Measured,
    rng: np.random.Generator,
    curve: Sequence[int] = (),
) -> QualityCard | None:
    """Evaluate a predictor on held-out pairs after fitting it on the others.

    Args:
        name: name of the predictor.
        new_predictor: makes one that has not been fitted.
        measured: the pairs.
        rng: draws the splits. The same generator gives every predictor the same ones.
        curve: numbers of pairs to take the learning curve at, as far as 70 % of the pairs go; the curve ends with all
            of those.

    Returns:
        The card; None if there are too few pairs to hold any out.
    """
    objective, architectures, targets = measured.objective, measured.architectures, measured.targets
    held_out = round(len(architectures) * HELD_OUT)
    if held_out < FEWEST_HELD_OUT:
        return None
    seen = len(architectures) - held_out
    sizes = [size for size in curve if size < seen] + [seen]
    top = max(min(MOST_TOP, held_out // 5), 1)
    scale = _spread(_with_objective(objective, targets))
    scored: dict[int, list[list[Scores]]] = {size: [] for size in sizes}
    first: dict[str, HeldOut] = {}
    for _ in range(SPLITS):
        order = rng.permutation(len(architectures))
        unseen, others = order[:held_out], order[held_out:]
        for size in sizes:
            predicted = _predicted(new_predictor(), architectures, targets, others[:size], unseen)
            scored[size].append(_scores_of(objective, targets[unseen], predicted, scale, top))
        first = first or _held_out(objective, targets[unseen], predicted)
    *metrics, whole = (Scores.mean(column) for column in zip(*scored[seen], strict=True))
    names = [metric.name for metric in objective.metrics]
    points = [_point(size, scored[size]) for size in sizes] if curve else []
    return QualityCard(
        name,
        len(architectures),
        held_out,
        SPLITS,
        top,
        dict(zip(names, metrics, strict=True)),
        whole,
        tuple(points),
        first,
    )


def _predicted(
    predictor: Predictor[Any],
    architectures: Sequence[Architecture],
    targets: Floats,
    seen: NDArray[np.int64],
    unseen: NDArray[np.int64],
) -> Prediction:
    predictor.fit([architectures[i] for i in seen], targets[seen])
    return predictor.predict([architectures[i] for i in unseen])


def _scores_of(objective: Objective, measured: Floats, predicted: Prediction, scale: Floats, top: int) -> list[Scores]:
    """Scores of every metric, then of the objective; ``scale``, shape (M + 1,), is one standard deviation of each."""
    deviations = np.column_stack([predicted.std, objective.uncertainty(predicted.std)])
    values = (_with_objective(objective, measured), _with_objective(objective, predicted.mean), deviations)
    columns = [(values / scale).T for values in values]
    return [_scores(real, mean, std, top) for real, mean, std in zip(*columns, strict=True)]


def _with_objective(objective: Objective, targets: Floats) -> Floats:
    """Targets turned so that less is better, and the objective as another column, shape (N, M + 1)."""
    return np.column_stack([targets * objective.signs, objective.score(targets)])


def _scores(measured: Floats, predicted: Floats, std: Floats, top: int) -> Scores:
    """Scores of one target of which less is better, all arrays of shape (N,)."""
    from scipy.stats import kendalltau, norm, spearmanr
    from sklearn.metrics import r2_score

    error = np.abs(predicted - measured)
    ranked = np.argsort(predicted, kind="stable")[:top]
    constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    within = error[:, None] <= norm.ppf((1 + LEVELS) / 2) * std[:, None]
    return Scores(
        r2=float(r2_score(measured, predicted)),
        mse=float((error**2).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        mae=float(error.mean()),
        kendall_tau=0.0 if constant else float(kendalltau(measured, predicted).statistic),
        spearman_rho=0.0 if constant else float(spearmanr(measured, predicted).statistic),
        regret=float(measured[ranked].min() - measured.min()),
        coverage_68=float((error <= std).mean()),
        coverage_95=float((error <= 1.96 * std).mean()),
        calibration_error=float(np.abs(within.mean(axis=0) - LEVELS).mean()),
    )


def _point(pairs: int, splits: Sequence[Sequence[Scores]]) -> CurvePoint:
    r2 = float(np.mean([scores.r2 for split in splits for scores in split[:-1]]))
    return CurvePoint(pairs, r2, float(np.mean([split[-1].kendall_tau for split in splits])))


def _held_out(objective: Objective, measured: Floats, predicted: Prediction) -> dict[str, HeldOut]:
    columns = (measured.T, predicted.mean.T, predicted.std.T)
    return {
        metric.name: HeldOut(*(tuple(np.round(values, 5).tolist()) for values in lists))
        for metric, *lists in zip(objective.metrics, *columns, strict=True)
    }


def _spread(targets: Floats) -> Floats:
    """Standard deviation of each column, 1 where there is none."""
    spread = targets.std(axis=0)
    return np.where(spread > 0, spread, 1.0)
