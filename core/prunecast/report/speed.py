"""Section "Speed": metrics over times that are predicted from measured components."""

from typing import TYPE_CHECKING

from prunecast.architecture.speed import SPEEDS, Speed
from prunecast.report.facts import Facts, MetricFacts, Row
from prunecast.report.ratios import FOUND, Series, draw_metric, series_of
from prunecast.report.section import Picture, Section, Table
from prunecast.report.theme import MUTED, Layout, legend_above
from prunecast.text import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 0.06
"""Horizontal margin, as a share of the range of the times."""


def section(facts: Facts) -> Section:
    """Section with the predicted times of the best architectures and the baselines."""
    if facts.speeds is None:
        return Section("Speed", [f"No times of components are recorded for this model in {_dtype(facts)}."])
    series = _by_time(facts, series_of(facts))
    text = (
        f"Times in milliseconds, the smaller the faster, predicted from times of components that were measured: "
        f"{facts.speeds}. A prefill is one forward pass over the batch of prompts; a decoding step reads one more "
        "token of each."
    )
    others = dict.fromkeys(
        str(each.conditions) for each in facts.recorded if each.conditions != facts.speeds.conditions
    )
    more = [f"Times are also recorded for {'; '.join(others)}."] if others else []
    return Section("Speed", [text, *more], _picture(facts, series), [_table(facts, series)])


def _dtype(facts: Facts) -> str:
    return str(facts.result["model"]["dtype"])


def _by_time(facts: Facts, series: Series) -> Series:
    """The series, each sorted by falling time of a prefill."""

    def time(row: Row) -> float:
        return -facts.milliseconds([row], SPEEDS[0])[0]

    return {name: sorted(rows, key=time) for name, rows in series.items()}


def _table(facts: Facts, series: Series) -> Table:
    named = [("dense", facts.dense), *((name, row) for name, rows in series.items() for row in rows)]
    rows = [
        [name, *_times(facts, row), *(number(row.metrics.get(metric.name)) for metric in facts.metrics)]
        for name, row in named
    ]
    columns = ("", *(column for speed in SPEEDS for column in (speed, "of dense")))
    return Table("Predicted times and measured metrics", (*columns, *(metric.name for metric in facts.metrics)), rows)


def _times(facts: Facts, row: Row) -> list[str]:
    """The times of a row, each with its share of that of the dense model."""
    by_speed = [facts.milliseconds([row, facts.dense], speed) for speed in SPEEDS]
    return [cell for own, dense in by_speed for cell in (number(own), percent(own / dense))]


def _picture(facts: Facts, series: Series) -> Picture:
    def draw(layout: Layout) -> "Figure":
        drawn = [(metric, speed) for metric in facts.metrics for speed in SPEEDS]
        figure, panels = layout.panels(len(drawn), 2.7)
        for axes, (metric, speed) in zip(panels, drawn, strict=True):
            _panel(axes, facts, series, metric, speed)
        legend_above(figure, panels[0], layout)
        return figure

    others = ", ".join(name for name in series if name != FOUND) or "none"
    return Picture(
        "speed",
        f"Metrics over predicted milliseconds, for the best architectures found and the baselines {others}.",
        f"Metrics over predicted milliseconds of a prefill and of a decoding step: {facts.speeds}. Grey dots are the "
        "architectures measured for the predictor and in rounds, the worst of them outside the picture; the dashed "
        "lines are the dense model.",
        draw,
    )


def _panel(axes: "Axes", facts: Facts, series: Series, metric: MetricFacts, speed: Speed) -> None:
    """Draw one metric over one speed."""
    draw_metric(axes, facts, series, metric, lambda rows: facts.milliseconds(rows, speed))
    (dense,) = facts.milliseconds([facts.dense], speed)
    axes.axvline(dense, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
    times = facts.milliseconds(
        [facts.dense, *facts.collected, *(row for rows in series.values() for row in rows)], speed
    )
    margin = MARGIN * (max(times) - min(times)) or MARGIN * dense
    axes.set_xlim(min(times) - margin, max(times) + margin)
    axes.set(title=metric.name, xlabel=speed)
