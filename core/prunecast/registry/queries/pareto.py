"""Pareto fronts: architectures that no other one dominates in the criteria."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Floats
from prunecast.architecture.shape import QUANTITIES
from prunecast.architecture.speed import SPEEDS
from prunecast.errors import RegistryError
from prunecast.registry.queries.selection import Filter, OpenSeries, Selection
from prunecast.registry.queries.series import Series, find_series
from prunecast.registry.queries.speeds import Conditions, RecordedSpeeds, chosen_speeds, recorded_speeds
from prunecast.registry.store import Registry

ANY = Conditions()


@dataclass(frozen=True)
class Front:
    """A Pareto front.

    Attributes:
        rows: rows with the columns of :func:`prunecast.registry.queries.selection.query`, model by model, each sorted
            by the first metric, best first.
        speeds: tables that speeds are predicted from, by model; empty if none is a criterion.
        left_out: number of architectures that are not compared, as no component times are recorded for their model in
            their dtype, by ``MODEL in DTYPE``.
    """

    rows: list[dict[str, Any]]
    speeds: Mapping[str, list[RecordedSpeeds]]
    left_out: Mapping[str, int]


def pareto(registry: Registry, criteria: Sequence[str], wanted: Filter, conditions: Conditions = ANY) -> Front:
    """Measured architectures that no other one dominates, i.e. is as good in every criterion and better in one.

    Metrics are optimised in their own direction; quantities such as ``parameters`` are minimised. Architectures of one
    model are compared across pruners and dtypes; numbers of different evaluators are not compared. Speeds are predicted
    from recorded component times; nothing is measured.

    Args:
        registry: the registry.
        criteria: two or three names of metrics and quantities, at least one of them a metric.
        wanted: filters; architectures that they exclude dominate nothing.
        conditions: those that component times were measured under. They may be left open where only one is recorded.

    Raises:
        RegistryError: not two or three different criteria, no metric among them, component times under several or
            none of the conditions, conditions without a speed, or what ``query`` raises.
    """
    speeds = [name for name in SPEEDS if name in criteria]
    metrics = [name for name in criteria if name not in (*QUANTITIES, *SPEEDS)]
    if not 2 <= len(set(criteria)) == len(criteria) <= 3 or not metrics:
        raise RegistryError(
            "a front has two or three different criteria and at least one metric: name metrics and some of "
            f"{', '.join((*QUANTITIES, *SPEEDS))}"
        )
    if conditions != ANY and not speeds:
        raise RegistryError(
            f"device, threads, batch and context choose component times, which none of the criteria needs: leave them "
            f"out, or name {' or '.join(SPEEDS)}"
        )
    # A metric comes first, because the index has its values in order.
    ordered = [metrics[0], *(name for name in criteria if name != metrics[0])]
    wanted = wanted.with_metrics(*metrics)
    found = find_series(registry, wanted.model, wanted.metrics)
    tables = _tables(registry, found, conditions) if speeds else {}
    compared = [_timed(series, tables[series.model]) for series in found] if speeds else found
    selection = Selection(registry, compared, wanted, criteria, speeds)
    left_out = _left_out(selection) if speeds else {}
    if speeds:
        compared = [series for series in compared if series.timed is not None]
    rows: list[dict[str, Any]] = []
    columns = [selection.column_of(name) if name in metrics else name for name in ordered]
    for _, group in groupby(sorted(compared, key=_comparable), key=_comparable):
        rows += _front(selection, list(group), columns)
    return Front(selection.readable(rows), {model: list(each.values()) for model, each in tables.items()}, left_out)


def undominated(values: Floats) -> NDArray[np.bool_]:
    """Mask, shape (N,), of the points that no other one dominates, for ``values`` (N, K); smaller is better."""
    front = np.zeros(len(values), dtype=bool)
    # The first of the sorted rows is not dominated. Without the rows that it dominates, the same holds for the next.
    left = np.lexsort(values.T[::-1])
    while len(left):
        first = values[left[0]]
        equal = (values[left] == first).all(axis=1)
        front[left[equal]] = True
        left = left[~(values[left] >= first).all(axis=1)]
    return front


def _tables(
    registry: Registry, found: Sequence[Series], conditions: Conditions
) -> dict[str, dict[str, RecordedSpeeds]]:
    """Component times of each model, by dtype."""
    shapes = {series.model: series.shape for series in found}
    return {
        model: chosen_speeds(recorded_speeds(registry, shape), conditions, model) for model, shape in shapes.items()
    }


def _timed(series: Series, tables: Mapping[str, RecordedSpeeds]) -> Series:
    """The series with the component times of its dtype, if there are any."""
    speeds = tables.get(series.dtype)
    return series if speeds is None else replace(series, timed=series.shape.with_speeds(speeds.table))


def _left_out(selection: Selection) -> dict[str, int]:
    """Number of architectures of series without component times, by model and dtype; those without any left out."""
    counts: dict[str, int] = {}
    for series in selection.found:
        if series.timed is None:
            with selection.opened(series) as opened:
                what = f"{series.model} in {series.dtype}"
                counts[what] = counts.get(what, 0) + opened.count()
    return {what: count for what, count in counts.items() if count}


def _comparable(series: Series) -> tuple[int, tuple[int, ...]]:
    """Model and evaluators of a series; series for which they are equal are compared."""
    return series.model_id, tuple(column.evaluator_id for column in series.columns)


def _front(selection: Selection, group: Sequence[Series], criteria: Sequence[str]) -> list[dict[str, Any]]:
    signs = {
        selection.column_of(column.metric): -1.0 if column.direction == "maximize" else 1.0
        for column in group[0].columns
    }
    order = [(name, signs.get(name, 1.0) < 0) for name in criteria]
    rows: list[dict[str, Any]] = []
    for series in group:
        with selection.opened(series) as opened:
            rows += _front_of_two(opened, order) if len(order) == 2 else opened.rows(order)
    rows = [row for row, stays in zip(rows, undominated(_values(rows, order)), strict=True) if stays]
    return sorted(rows, key=lambda row: _values([row], order)[0].tolist())


def _front_of_two(opened: OpenSeries, order: Sequence[tuple[str, bool]]) -> Iterator[dict[str, Any]]:
    """The front of two criteria, sorted by the first: each next point is the first one better in the second.

    SQLite passes over the index once in total, and only the front is read into memory.
    """
    (first, first_falls), (second, second_falls) = order
    beyond = f'"{first}" {"<=" if first_falls else ">="} :first AND "{second}" {">" if second_falls else "<"} :second'
    point = opened.rows(order, limit=1)
    while point:
        at = {"first": point[0][first], "second": point[0][second]}
        yield from opened.rows(order, conditions=[f'"{first}" = :first AND "{second}" = :second'], **at)
        point = opened.rows(order, limit=1, conditions=[beyond], **at)


def _values(rows: Sequence[Mapping[str, Any]], order: Sequence[tuple[str, bool]]) -> Floats:
    """The criteria of rows, shape (N, K), with maximised ones negated so that smaller is better."""
    signs = np.array([-1.0 if falls else 1.0 for _, falls in order])
    values = np.array([[row[name] for name, _ in order] for row in rows], dtype=np.float64)
    return np.asarray(values.reshape(-1, len(order)) * signs, dtype=np.float64)
