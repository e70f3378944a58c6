"""Section "Predictor": predicted against measured values (figure 3 of arXiv 2309.09507), and scores of the predictor.

Notation, for one metric on the scale predictors learn (the logarithm of a perplexity):

    x, y  (N,)  predicted and measured values of N held-out pairs
    a, b        intercept and slope of the least-squares line y = a + b x
    m, S        mean of x, and the square root of sum (x - m)^2
    s           residual standard deviation, the square root of sum (y - a - b x)^2 / (N - 2)
    t           quantile of Student's distribution with N - 2 degrees of freedom, at (1 + 0.95) / 2

The band around the line is the pointwise 95 % confidence interval of the mean of y at x:

    a + b x  +-  t s sqrt(1 / N + ((x - m) / S)^2)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import Floats
from prunecast.report.facts import Facts, MetricFacts
from prunecast.report.section import Picture, Section, Table
from prunecast.report.theme import BLUE, INK, MARKERS, MUTED, ORANGE, Layout, legend_above, plain_log_axis
from prunecast.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFIDENCE = 0.95
"""Confidence level of the band."""

FEWEST_FITTED = 5
"""Smallest N for which a line is fitted."""

_SCORES = {
    "r2": "R²",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "kendall_tau": "Kendall tau",
    "spearman_rho": "Spearman rho",
    "regret": "regret",
    "coverage_95": "95 % coverage",
}


@dataclass(frozen=True)
class Line:
    """Least-squares line of measured on predicted values, with its confidence band.

    Attributes:
        intercept, slope: a and b.
        mean, deviation: m and S.
        residual_std: s.
        count: N.
    """

    intercept: float
    slope: float
    mean: float
    deviation: float
    residual_std: float
    count: int

    @classmethod
    def through(cls, predicted: Floats, measured: Floats) -> "Line | None":
        """The line through the points; None if there are fewer than ``FEWEST_FITTED`` or all predictions are equal."""
        if len(predicted) < FEWEST_FITTED or np.ptp(predicted) == 0:
            return None
        slope, intercept = np.polyfit(predicted, measured, 1)
        residual = measured - intercept - slope * predicted
        residual_std = np.sqrt((residual**2).sum() / (len(predicted) - 2))
        mean, deviation = predicted.mean(), np.sqrt(((predicted - predicted.mean()) ** 2).sum())
        return cls(float(intercept), float(slope), float(mean), float(deviation), float(residual_std), len(predicted))

    def at(self, x: Floats) -> Floats:
        """Height of the line at ``x``, both of shape (K,)."""
        return self.intercept + self.slope * x

    def half_width(self, x: Floats) -> Floats:
        """Half the width of the confidence band at ``x``, both of shape (K,)."""
        from scipy.stats import t

        quantile = t.ppf((1 + CONFIDENCE) / 2, self.count - 2)
        relative = (x - self.mean) / self.deviation
        return np.asarray(quantile * self.residual_std * np.sqrt(1 / self.count + relative**2))


def section(facts: Facts) -> Section:
    """Section with the scores of the predictor and its predictions against measurements."""
    card = facts.result.get("quality_card")
    if not card:
        return Section("Predictor", ["The result of this run has no quality card of its predictor: there were too few "
                                     "pairs to hold any out, or an earlier version wrote it."])  # fmt: skip
    points = {metric.name: Points.of(metric, card, facts.result.get("rounds", [])) for metric in facts.searched}
    text = (
        f"{card['predictor']}, fitted on {card['pairs'] - card['held_out']} of {card['pairs']} pairs and evaluated on "
        f"the other {card['held_out']}; means over {card['splits']} random splits. As in the paper, the targets are "
        "standardised; those of perplexities are their logarithms."
    )
    tables = [_scores(card), *(points[metric.name].table(metric) for metric in facts.searched)]
    return Section("Predictor", [text], _picture(facts.searched, points), tables)


@dataclass(frozen=True)
class Points:
    """Predicted and measured values of one metric, each of shape (N,), in its own unit.

    Attributes:
        held_out: (predicted, measured) of the first split's held-out pairs.
        searched: (predicted, measured) of the architectures chosen in rounds, predicted before they were measured.
        line: line through the held-out pairs, on the scale predictors learn; None if there are too few.
    """

    held_out: tuple[Floats, Floats]
    searched: tuple[Floats, Floats]
    line: Line | None

    @classmethod
    def of(cls, metric: MetricFacts, card: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> "Points":
        """Points of a metric, from the run's quality card and its rounds."""
        split = card["first_split"][metric.name]
        predicted, measured = (np.array(split[side], dtype=np.float64) for side in ("predicted", "measured"))
        chosen = [each for one in rounds for each in one["chosen"] if each["measured"]]
        searched = [np.array([each[side][metric.name] for each in chosen]) for side in ("predicted", "measured")]
        units = (np.array([metric.from_scale(value) for value in values]) for values in (predicted, measured))
        return cls((next(units), next(units)), (searched[0], searched[1]), Line.through(predicted, measured))

    def table(self, metric: MetricFacts) -> Table:
        """Table of all points."""
        rows = [
            [kind, number(float(predicted)), number(float(measured))]
            for kind, pairs in (("held out", self.held_out), ("chosen by search", self.searched))
            for predicted, measured in zip(*pairs, strict=True)
        ]
        caption = f"Predicted and measured {metric.name}"
        return Table(caption, ("pair", "predicted", "measured"), rows, folded=True)


def _scores(card: Mapping[str, Any]) -> Table:
    scored = {**card["metrics"], "mean of the metrics": card["overall"], "objective": card["objective"]}
    rows = [[name, *(f"{scores[key]:.3f}" for key in _SCORES)] for name, scores in scored.items()]
    caption = f"Quality on held-out pairs; regret of the top {card['top']} by prediction"
    return Table(caption, ("", *_SCORES.values()), rows)


def _picture(metrics: Sequence[MetricFacts], points: Mapping[str, Points]) -> Picture:
    def draw(layout: Layout) -> "Figure":
        figure, panels = layout.panels(len(metrics), 3.2)
        for axes, metric in zip(panels, metrics, strict=True):
            _panel(axes, metric, points[metric.name])
        legend_above(figure, panels[0], layout)
        return figure

    names = ", ".join(metric.name for metric in metrics)
    return Picture(
        "predicted",
        f"Scatter of measured over predicted values of {names}, with the line of perfect prediction.",
        "Dots are the held-out pairs of the first random split. Triangles are architectures chosen by the search, "
        "predicted before they were measured. The solid line is the least-squares fit through the dots with its 95 % "
        "confidence band; on the dashed line prediction and measurement agree.",
        draw,
    )


def _panel(axes: "Axes", metric: MetricFacts, points: Points) -> None:
    every = np.concatenate([*points.held_out, *points.searched])
    ends = np.array([every.min(), every.max()])
    axes.plot(ends, ends, color=MUTED, linestyle=(0, (4, 3)), linewidth=1, label="perfect")
    if points.line is not None:
        _draw_line(axes, metric, points)
    axes.scatter(*points.held_out, s=22, color=BLUE, marker=MARKERS[0], alpha=0.75, linewidth=0, label="held out")
    if len(points.searched[0]):
        axes.scatter(*points.searched, s=24, color=ORANGE, marker=MARKERS[2], linewidth=0, label="chosen by search")
    if metric.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain_log_axis(axes.xaxis)
        plain_log_axis(axes.yaxis)
    axes.set(title=metric.name, xlabel="predicted", ylabel="measured")


def _draw_line(axes: "Axes", metric: MetricFacts, points: Points) -> None:
    line = points.line
    if line is None:
        return
    scale = np.log if metric.logarithmic else np.asarray
    x = np.linspace(scale(points.held_out[0].min()), scale(points.held_out[0].max()), 60)
    middle, half = line.at(x), line.half_width(x)
    back = np.exp if metric.logarithmic else np.asarray
    axes.fill_between(back(x), back(middle - half), back(middle + half), color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(back(x), back(middle), color=INK, linewidth=1.3, label="fit, 95 % band")
