"""Section "Recovery": metrics before and after training (table 3 of arXiv 2309.09507), and the loss."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.report.facts import Facts, MetricFacts, Row
from prunecast.report.section import Picture, Section, Table
from prunecast.report.theme import BLUE, MARKERS, MUTED, ORANGE, Layout, plain_log_axis
from prunecast.text import better, counted, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTHED = 20
"""Number of segments that the loss is averaged over."""


def section(facts: Facts) -> Section:
    """Section with the effect of training the best architecture."""
    recovery = facts.recovery
    if recovery is None:
        return Section("Recovery", ["The run did not train the pruned model."])
    after = Row.of(recovery["after"])
    options = recovery["options"]
    text = (
        f"The best architecture was trained by {recovery['method']} on {counted(recovery['examples'], 'example')} of "
        f"{options['dataset']} for {counted(recovery['steps'], 'step')} with batch size {options['batch']}, in "
        f"{recovery['dtype']}, seed {options['seed']}; the baselines were not trained."
    )
    tables = [_table(facts, after), _options(options)]
    if recovery["losses"]:
        tables.append(_losses(recovery["losses"]))
    return Section("Recovery", [text], _picture(facts, after, recovery["losses"]), tables)


def _table(facts: Facts, after: Row) -> Table:
    dense, before, names = facts.dense, facts.best, [metric.name for metric in facts.metrics]
    gains = [better(metric.gain(after.metrics[metric.name], before.metrics[metric.name])) for metric in facts.metrics]
    rows = [
        [label, *(number(row.metrics[name]) for name in names)]
        for label, row in (("dense", dense), ("pruned", before), ("recovered", after))
    ]
    return Table("Before and after recovery", ("", *names), [*rows, ["recovered compared with pruned", *gains]])


def _options(options: Mapping[str, Any]) -> Table:
    rows = [
        [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)] for name, value in options.items()
    ]
    return Table("Training options", ("option", "value"), rows, folded=True, prose=True)


def _losses(losses: Sequence[float]) -> Table:
    rows = [[str(step), f"{loss:.4f}"] for step, loss in enumerate(losses, 1)]
    return Table("Training loss of each step, nats per position", ("step", "loss"), rows, folded=True)


def _picture(facts: Facts, after: Row, losses: Sequence[float] | None) -> Picture | None:
    # The dense model's divergence from itself is 0, so values relative to it are undefined.
    comparable = [metric for metric in facts.metrics if facts.dense.metrics[metric.name] != 0]
    if not comparable:
        return None

    def draw(layout: Layout) -> "Figure":
        figure, panels = layout.panels(2 if losses else 1, 2.6)
        _changes(panels[0], comparable, facts.dense, facts.best, after)
        if losses:
            _curve(panels[1], losses)
        return figure

    names = ", ".join(metric.name for metric in comparable)
    return Picture(
        "recovery",
        f"For {names}: the pruned and the recovered model relative to the dense one, and the training loss.",
        "Each metric of the pruned (circle) and of the recovered model (square), relative to the dense model, which is "
        "at 1. The other panel has the training loss of each step, and its mean over segments of the training.",
        draw,
    )


def _changes(axes: "Axes", metrics: Sequence[MetricFacts], dense: Row, before: Row, after: Row) -> None:
    for place, metric in enumerate(metrics):
        reference = dense.metrics[metric.name]
        ends = [row.metrics[metric.name] / reference for row in (before, after)]
        axes.plot(ends, [place, place], color=MUTED, linewidth=1, zorder=1)
        for end, colour, marker in zip(ends, (ORANGE, BLUE), MARKERS, strict=False):
            axes.scatter([end], [place], color=colour, marker=marker, s=36, linewidth=0)
    axes.axvline(1, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_yticks(range(len(metrics)), [metric.name for metric in metrics])
    axes.set_ylim(len(metrics) - 0.5, -0.5)
    axes.set_xscale("log")
    plain_log_axis(axes.xaxis)
    axes.set(title="pruned and recovered", xlabel="relative to the dense model")


def _curve(axes: "Axes", losses: Sequence[float]) -> None:
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color=BLUE, linewidth=0.8, alpha=0.5)
    pieces = np.array_split(np.arange(len(losses)), min(SMOOTHED, len(losses)))
    values = np.array(losses)
    axes.plot([steps[p].mean() for p in pieces], [values[p].mean() for p in pieces], color=BLUE, linewidth=1.8)
    axes.set(title="training loss", xlabel="step", ylabel="nats per position")
