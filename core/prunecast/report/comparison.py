"""Section "Result": metrics of the dense model, the baselines and the best architecture."""

from collections.abc import Sequence

from prunecast.architecture.speed import SPEEDS
from prunecast.report.facts import Facts, MetricFacts, Row
from prunecast.report.section import Section, Table
from prunecast.text import better, number, percent

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
    matched = _matched(facts)
    if not matched:
        return f"{size} The run has no baseline with this parameter count."
    # Metrics that the search optimised are biased in favour of its winner, so the others are reported if there are any.
    searched = {metric.name for metric in facts.searched}
    reported = [metric for metric in facts.metrics if metric.name not in searched] or facts.metrics
    gains = [f"{better(_against_best(best, matched, metric))} on {metric.name}" for metric in reported]
    return f"{size} Compared with the best baseline of the same size, the best architecture found is {_listed(gains)}."


def _matched(facts: Facts) -> list[Row]:
    best = facts.best.parameters
    return [row for row in facts.baselines if abs(row.parameters - best) <= MATCHED * best]


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


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
