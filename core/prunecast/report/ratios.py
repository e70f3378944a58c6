"""Ours against the baselines over the total ratio (figure 4 of arXiv 2309.09507)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from prunecast.compare.uniform import distinct_totals
from prunecast.report.facts import Facts, MetricFacts, Outcome, Row
from prunecast.report.section import Picture, Section, Table
from prunecast.report.theme import (
    BLUE,
    CLOUD,
    GREEN,
    MARKERS,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Layout,
    legend_above,
    plain_log_axis,
)
from prunecast.text import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = dict[str, list[Row]]

FOUND = "found"

LEAST_MARGIN = 0.5
"""Percent of the parameters to the left and right of what is shown, at least."""

MARGIN = 1.15
"""Room above and below, as a factor."""


def section(facts: Facts) -> Section:
    """Section with all totals that the model was run at under the same protocol."""
    drawn = _one_a_total(facts.alike)
    series = _series(drawn)
    if len(series) == 1:
        return Section("Ratios", ["This run was compared with no baseline."])
    runs = "this run"
    if len(drawn) > 1:
        runs = f"{len(drawn)} runs of the model under the same protocol, at each total this run or else the latest"
    text = f"What was found against the baselines, over the share of all parameters that is removed: {runs}."
    return Section("Ratios", [text], _picture(facts, series), [_table(facts, series), _cloud(facts)])


def _one_a_total(runs: Sequence[Outcome]) -> list[tuple[list[Row], list[Row]]]:
    """Of each run what it found at totals that none before it came to, and the baselines there; no run without any."""
    drawn, totals = [], list[int]()
    for run in runs:
        reached = distinct_totals([*totals, *(row.parameters for row in run.found)])[len(totals) :]
        found = [row for row in run.found if row.parameters in reached]
        if found:
            drawn.append((found, [row for row in run.baselines if _nearest(run.found, row) in reached]))
        totals += reached
    return drawn


def _nearest(found: Sequence[Row], baseline: Row) -> int:
    """The total that a baseline is compared at."""
    return min((row.parameters for row in found), key=lambda total: abs(total - baseline.parameters))


def _series(drawn: Sequence[tuple[list[Row], list[Row]]]) -> Series:
    """Rows by name, each sorted by what is removed."""
    found: Series = {FOUND: []}
    for rows, baselines in drawn:
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
    return Table("Found and baselines, at every budget", columns, rows)


def _cloud(facts: Facts) -> Table:
    rows = [
        [percent(1 - facts.kept(parameters)), *(number(metrics.get(metric.name)) for metric in facts.searched)]
        for parameters, metrics in facts.collected
    ]
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
            axes.set_ylim(_value_range(facts, series, metric))
        legend_above(figure, panels[0], layout)
        return figure

    others = ", ".join(name for name in series if name != FOUND)
    return Picture(
        "ratios",
        f"Metrics over the share of parameters removed: what was found, and the baselines {others}.",
        "Metrics over the share of all parameters that is removed, embeddings counted. Grey dots are the architectures "
        "measured on the way, without the worst of them; the dashed line is the dense model.",
        draw,
    )


def _removed_range(facts: Facts, series: Series) -> tuple[float, float]:
    """Percentages removed from the least to the most, the same in all panels."""
    counts = [row.parameters for rows in series.values() for row in rows]
    counts += [parameters for parameters, _ in facts.collected]
    removed = [100 * (1 - facts.kept(count)) for count in counts]
    margin = max(0.06 * (max(removed) - min(removed)), LEAST_MARGIN)
    return min(removed) - margin, max(removed) + margin


def _value_range(facts: Facts, series: Series, metric: MetricFacts) -> tuple[float, float]:
    """Room for what is compared and for half of the cloud, whose worst members would flatten everything else."""
    compared = [row.metrics[metric.name] for rows in [*series.values(), [facts.dense]] for row in rows]
    cloud = [values[metric.name] for _, values in facts.collected if metric.name in values]
    ends = compared + ([float(np.median(cloud))] if cloud else [])
    low, high = min(ends), max(ends)
    if metric.logarithmic:
        return low / MARGIN, high * MARGIN
    room = (MARGIN - 1) * (high - low)
    return low - room, high + room


def _panel(axes: "Axes", facts: Facts, series: Series, metric: MetricFacts) -> None:
    measured = [(kept, values[metric.name]) for kept, values in facts.collected if metric.name in values]
    if measured:
        x, y = zip(*((100 * (1 - facts.kept(kept)), value) for kept, value in measured), strict=True)
        axes.scatter(x, y, s=9, color=CLOUD, linewidth=0, zorder=1)
    axes.axhline(facts.dense.metrics[metric.name], color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
    colours = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)
    for (name, rows), colour, marker in zip(series.items(), colours, MARKERS, strict=False):
        points = [(100 * (1 - facts.kept(row.parameters)), row.metrics[metric.name]) for row in rows]
        above = 4 if name == FOUND else 3
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=name, zorder=above, markersize=6)
    if metric.logarithmic:
        axes.set_yscale("log")
        plain_log_axis(axes.yaxis)
    axes.set(title=metric.name, xlabel="parameters removed, %")
