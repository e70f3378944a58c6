"""Section "Ratios": best architectures and baselines over the total pruning ratio (figure 4 of arXiv 2309.09507)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from prunecast.compare.uniform import distinct_totals
from prunecast.report.facts import Facts, MetricFacts, Outcome, Row
from prunecast.report.section import Picture, Section, Table
from prunecast.report.theme import CLOUD, MUTED, SERIES, Layout, legend_above, plain_log_axis
from prunecast.text import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = dict[str, list[Row]]
"""Rows by name, each list sorted by falling parameter count."""

FOUND = "found"
"""Name of the series of the best architectures."""

LEAST_MARGIN = 0.5
"""Smallest horizontal margin, in percent of the parameters."""

MARGIN = 1.15
"""Vertical margin, as a factor."""


def section(facts: Facts) -> Section:
    """Section with all parameter counts at which comparable runs found architectures."""
    drawn = _one_per_total(facts.comparable)
    series = series_of(facts)
    if len(series) == 1:
        return Section("Ratios", ["This run has no baselines."])
    runs = "this run"
    if len(drawn) > 1:
        runs = (
            f"{len(drawn)} runs of the model under the same protocol; at each parameter count this run, else the latest"
        )
    text = f"Best architectures found and baselines, over the share of all parameters removed. Source: {runs}."
    return Section("Ratios", [text], _picture(facts, series), [_table(facts, series), _collected(facts)])


def _one_per_total(runs: Sequence[Outcome]) -> list[tuple[list[Row], list[Row]]]:
    """Each run's best architectures at parameter counts that no earlier run of the list has, and the baselines there.

    Runs without any are left out.
    """
    drawn, totals = [], list[int]()
    for run in runs:
        reached = distinct_totals([*totals, *(row.parameters for row in run.found)])[len(totals) :]
        found = [row for row in run.found if row.parameters in reached]
        if found:
            drawn.append((found, [row for row in run.baselines if _nearest(run.found, row) in reached]))
        totals += reached
    return drawn


def _nearest(found: Sequence[Row], baseline: Row) -> int:
    """The parameter count, among those of ``found``, that a baseline is compared at."""
    return min((row.parameters for row in found), key=lambda total: abs(total - baseline.parameters))


def series_of(facts: Facts) -> Series:
    """All series: the best architectures, and each baseline."""
    found: Series = {FOUND: []}
    for rows, baselines in _one_per_total(facts.comparable):
        found[FOUND] += rows
        for row in baselines:
            found.setdefault(row.name, []).append(row)
    return {name: sorted(rows, key=lambda row: -row.parameters) for name, rows in found.items()}


def _table(facts: Facts, series: Series) -> Table:
    rows = [
        [name, percent(1 - facts.kept(row.parameters)), number(row.parameters), *_values(facts.metrics, row)]
        for name, each in series.items()
        for row in each
    ]
    columns = ("", "removed", "parameters", *(metric.name for metric in facts.metrics))
    return Table("Best architectures found and baselines, by parameters removed", columns, rows)


def _collected(facts: Facts) -> Table:
    rows = [[percent(1 - facts.kept(row.parameters)), *_values(facts.searched, row)] for row in facts.collected]
    columns = ("removed", *(metric.name for metric in facts.searched))
    return Table("All measured pairs", columns, rows, folded=True)


def _values(metrics: Sequence[MetricFacts], row: Row) -> list[str]:
    return [number(row.metrics.get(metric.name)) for metric in metrics]


def _picture(facts: Facts, series: Series) -> Picture:
    def draw(layout: Layout) -> "Figure":
        figure, panels = layout.panels(len(facts.metrics), 2.7)
        for axes, metric in zip(panels, facts.metrics, strict=True):
            _panel(axes, facts, series, metric)
            axes.set_xlim(_removed_range(facts, series))
        legend_above(figure, panels[0], layout)
        return figure

    others = ", ".join(name for name in series if name != FOUND)
    return Picture(
        "ratios",
        f"Metrics over the share of parameters removed, for the best architectures found and the baselines {others}.",
        "Metrics over the share of all parameters removed, embeddings included. Grey dots are the architectures "
        "measured for the predictor and in rounds, the worst of them outside the picture; the dashed line is the dense "
        "model.",
        draw,
    )


def _removed_range(facts: Facts, series: Series) -> tuple[float, float]:
    """Horizontal range in percent removed, the same in all panels."""
    counts = [row.parameters for rows in series.values() for row in rows]
    counts += [row.parameters for row in facts.collected]
    removed = [100 * (1 - facts.kept(count)) for count in counts]
    margin = max(0.06 * (max(removed) - min(removed)), LEAST_MARGIN)
    return min(removed) - margin, max(removed) + margin


def _value_range(facts: Facts, series: Series, metric: MetricFacts) -> tuple[float, float]:
    """Vertical range of a panel: all series, the dense model and the better half of the measured pairs.

    The worst pairs are so far off that the differences between the series would be invisible.
    """
    compared = [row.metrics[metric.name] for rows in [*series.values(), [facts.dense]] for row in rows]
    measured = [row.metrics[metric.name] for row in facts.collected if metric.name in row.metrics]
    ends = compared + ([float(np.median(measured))] if measured else [])
    low, high = min(ends), max(ends)
    if metric.logarithmic:
        return low / MARGIN, high * MARGIN
    room = (MARGIN - 1) * (high - low)
    return low - room, high + room


def _panel(axes: "Axes", facts: Facts, series: Series, metric: MetricFacts) -> None:
    """Draw one metric over the parameters removed."""

    def removed_of(rows: Sequence[Row]) -> list[float]:
        return [100 * (1 - facts.kept(row.parameters)) for row in rows]

    draw_metric(axes, facts, series, metric, removed_of)
    axes.set(title=metric.name, xlabel="parameters removed, %")


def draw_metric(
    axes: "Axes", facts: Facts, series: Series, metric: MetricFacts, places: Callable[[Sequence[Row]], list[float]]
) -> None:
    """Draw measured pairs as dots, the dense model as a dashed line, and each series as a line.

    Args:
        axes: the panel.
        facts: the run.
        series: the series.
        metric: the metric of the vertical axis.
        places: horizontal places of rows.

    Raises:
        ValueError: there are more series than colours.
    """
    measured = [row for row in facts.collected if metric.name in row.metrics]
    axes.scatter(
        places(measured), [row.metrics[metric.name] for row in measured], s=9, color=CLOUD, linewidth=0, zorder=1
    )
    axes.axhline(facts.dense.metrics[metric.name], color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
    for (name, rows), (colour, marker) in zip(series.items(), SERIES[: len(series)], strict=True):
        values = [row.metrics[metric.name] for row in rows]
        above = 4 if name == FOUND else 3
        axes.plot(places(rows), values, color=colour, marker=marker, label=name, zorder=above, markersize=6)
    if metric.logarithmic:
        axes.set_yscale("log")
        plain_log_axis(axes.yaxis)
    axes.set_ylim(_value_range(facts, series, metric))
