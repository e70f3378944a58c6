"""Pareto fronts: architectures that no other one dominates in the criteria."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Floats
from prunecast.architecture.shape import QUANTITIES
from prunecast.errors import RegistryError
from prunecast.registry.queries.selection import Filter, OpenSeries, Selection
from prunecast.registry.queries.series import Series, find_series
from prunecast.registry.store import Registry


def pareto(registry: Registry, criteria: Sequence[str], wanted: Filter) -> list[dict[str, Any]]:
    """Measured architectures that no other one dominates, i.e. is as good in every criterion and better in one.

    Metrics are optimised in their own direction; quantities such as ``parameters`` are minimised. Architectures of one
    model are compared across pruners and dtypes; numbers of different evaluators are not compared.

    Args:
        registry: the registry.
        criteria: two or three names of metrics and quantities, at least one of them a metric.
        wanted: filters; architectures that they exclude dominate nothing.

    Returns:
        Rows with the columns of :func:`prunecast.registry.queries.selection.query`, model by model, each sorted by the
        first metric, best first.

    Raises:
        RegistryError: not two or three different criteria, no metric among them, or what ``query`` raises.
    """
    metrics = [name for name in criteria if name not in QUANTITIES]
    if not 2 <= len(set(criteria)) == len(criteria) <= 3 or not metrics:
        raise RegistryError(
            "a front has two or three different criteria and at least one metric: name metrics and some of "
            f"{', '.join(QUANTITIES)}"
        )
    # A metric comes first, because the index has its values in order.
    ordered = [metrics[0], *(name for name in criteria if name != metrics[0])]
    wanted = replace(wanted, metrics=tuple(dict.fromkeys([*metrics, *wanted.metrics])))
    found = find_series(registry, wanted.model, wanted.metrics)
    selection = Selection(registry, found, wanted, criteria)
    rows: list[dict[str, Any]] = []
    for _, group in groupby(sorted(found, key=_comparable), key=_comparable):
        rows += _front(selection, list(group), ordered)
    return selection.readable(rows)


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


def _comparable(series: Series) -> tuple[int, tuple[int, ...]]:
    """Model and evaluators of a series; series for which they are equal are compared."""
    return series.model_id, tuple(column.evaluator_id for column in series.columns)


def _front(selection: Selection, group: Sequence[Series], criteria: Sequence[str]) -> list[dict[str, Any]]:
    signs = {column.metric: -1.0 if column.direction == "maximize" else 1.0 for column in group[0].columns}
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
