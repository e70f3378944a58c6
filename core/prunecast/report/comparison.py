"""Section "Result": metrics of the dense model, the baselines and the best architecture."""

from collections.abc import Sequence

from prunecast.architecture.speed import SPEEDS
from prunecast.report.facts import Compared, Facts, MetricFacts, Row
from prunecast.report.section import Section, Table
from prunecast.text import better, listed, number, percent

MATCHED = 0.002
"""Largest relative difference in parameter count between the best architecture and a baseline compared with it."""


def section(facts: Facts) -> Section:
    """Section with the table of results."""
    rows = [_row(facts, row.name, row) for row in (facts.dense, *facts.baselines, facts.best)]
    if facts.recovery:
        rows.append(_row(facts, f"recovered by {facts.recovery['method']}", Row.of(facts.recovery["after"])))
    matched = _matched(facts)
    if matched:
        gains = [_against_best(facts.best, matched, metric) for metric in facts.metrics]
        empty = [""] * (2 + len(_times(facts, facts.best)))
        rows.append(["best compared with best baseline", *empty, *(better(gain) for gain in gains)])
    caption = f"Measured metrics in {facts.result['model']['dtype']}; parameter counts include embeddings"
    times = [f"{speed}, of dense" for speed in SPEEDS] if facts.speeds else []
    if times:
        caption += f"; times predicted for {facts.speeds}"
    columns = ("", "parameters", "kept", *times, *(metric.name for metric in facts.metrics))
    return Section("Result", [headline(facts)], tables=[Table(caption, columns, rows)])


def headline(facts: Facts) -> str:
    """The result in two sentences."""
    best, kept = facts.best, facts.kept(facts.best.parameters)
    size = f"{number(best.parameters)} of {number(facts.dense.parameters)} parameters are kept ({percent(kept)})."
    return f"{size} {against_baselines(facts)}"


def against_baselines(run: Compared) -> str:
    """How the best architecture compares with the best baseline of its size, in a sentence."""
    matched = _matched(run)
    if not matched:
        return "The run has no baseline with this parameter count."
    # Metrics that the search optimised are biased in favour of its winner, so the others are reported if there are any.
    searched = {metric.name for metric in run.searched}
    reported = [metric for metric in run.metrics if metric.name not in searched] or run.metrics
    gains = [f"{better(_against_best(run.best, matched, metric))} on {metric.name}" for metric in reported]
    return f"Compared with the best baseline of the same size, the best architecture found is {listed(gains)}."


def _matched(run: Compared) -> list[Row]:
    best = run.best.parameters
    return [row for row in run.baselines if abs(row.parameters - best) <= MATCHED * best]


def _against_best(best: Row, baselines: Sequence[Row], metric: MetricFacts) -> float:
    values = [row.metrics[metric.name] for row in baselines]
    return metric.gain(best.metrics[metric.name], min(values) if metric.smaller_is_better else max(values))


def _row(facts: Facts, name: str, row: Row) -> list[str]:
    values = [number(row.metrics.get(metric.name)) for metric in facts.metrics]
    return [name, number(row.parameters), percent(facts.kept(row.parameters)), *_times(facts, row), *values]


def _times(facts: Facts, row: Row) -> list[str]:
    """Predicted times of a row as shares of those of the dense model; none if no component times are recorded."""
    if facts.speeds is None:
        return []
    times = [facts.milliseconds([row, facts.dense], speed) for speed in SPEEDS]
    return [percent(own / dense) for own, dense in times]
