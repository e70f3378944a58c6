"""Pareto fronts: architectures that no other beats in everything asked for."""

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
    """Measured architectures that no other beats: none is at least as good in every criterion and better in one.

    A metric counts in its own direction, a quantity such as ``parameters`` is better the smaller it is. Architectures
    compete within a model, over its pruners and dtypes; numbers of different evaluators are not compared.

    Args:
        registry: where to look.
        criteria: two or three names of metrics and quantities, at least one of them a metric.
        wanted: filters; what they leave out does not compete.

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
    # The index leads through the values of the first metric.
    ordered = [metrics[0], *(name for name in criteria if name != metrics[0])]
    wanted = replace(wanted, metrics=tuple(dict.fromkeys([*metrics, *wanted.metrics])))
    found = find_series(registry, wanted.model, wanted.metrics)
    selection = Selection(registry, found, wanted, criteria)
    rows: list[dict[str, Any]] = []
    for _, contest in groupby(sorted(found, key=_contest), key=_contest):
        rows += _front(selection, list(contest), ordered)
    return selection.readable(rows)


def undominated(values: Floats) -> NDArray[np.bool_]:
    """Which of N points of K criteria, shape (N, K) and smaller is better, no other dominates; shape (N,)."""
    front = np.zeros(len(values), dtype=bool)
    # Nothing dominates the first of the sorted rows; what it dominates is gone, and the next first one is as good.
    left = np.lexsort(values.T[::-1])
    while len(left):
        first = values[left[0]]
        equal = (values[left] == first).all(axis=1)
        front[left[equal]] = True
        left = left[~(values[left] >= first).all(axis=1)]
    return front


def _contest(series: Series) -> tuple[int, tuple[int, ...]]:
    return series.model_id, tuple(column.evaluator_id for column in series.columns)


def _front(selection: Selection, contest: Sequence[Series], criteria: Sequence[str]) -> list[dict[str, Any]]:
    signs = {column.metric: -1.0 if column.direction == "maximize" else 1.0 for column in contest[0].columns}
    order = [(name, signs.get(name, 1.0) < 0) for name in criteria]
    rows: list[dict[str, Any]] = []
    for series in contest:
        with selection.opened(series) as opened:
            rows += _walked(opened, order) if len(order) == 2 else opened.rows(order)
    rows = [row for row, stays in zip(rows, undominated(_values(rows, order)), strict=True) if stays]
    return sorted(rows, key=lambda row: _values([row], order)[0].tolist())


def _walked(opened: OpenSeries, order: Sequence[tuple[str, bool]]) -> Iterator[dict[str, Any]]:
    """The front of two criteria, from the best of the first on: the next point is the first one better in the second.

    SQLite walks the index once, in all; nothing but the front is brought here.
    """
    (first, first_falls), (second, second_falls) = order
    beyond = f'"{first}" {"<=" if first_falls else ">="} :first AND "{second}" {">" if second_falls else "<"} :second'
    point = opened.rows(order, limit=1)
    while point:
        at = {"first": point[0][first], "second": point[0][second]}
        yield from opened.rows(order, conditions=[f'"{first}" = :first AND "{second}" = :second'], **at)
        point = opened.rows(order, limit=1, conditions=[beyond], **at)


def _values(rows: Sequence[Mapping[str, Any]], order: Sequence[tuple[str, bool]]) -> Floats:
    """The criteria of rows, shape (N, K), turned so that smaller is better."""
    signs = np.array([-1.0 if falls else 1.0 for _, falls in order])
    values = np.array([[row[name] for name, _ in order] for row in rows], dtype=np.float64)
    return np.asarray(values.reshape(-1, len(order)) * signs, dtype=np.float64)
