"""Selection of architectures by filters, one row for each, with their metrics as columns. SQLite does the filtering."""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.shape import QUANTITIES, Quantity
from prunecast.architecture.speed import SPEEDS, Speed
from prunecast.errors import RegistryError
from prunecast.registry.queries.ranges import Ranges
from prunecast.registry.queries.series import Series, find_series
from prunecast.registry.queries.series_sql import Order, SeriesStatement, add_costs, within
from prunecast.registry.records import utc_text
from prunecast.registry.sqlite.database import only_select, reading
from prunecast.registry.store import Registry

_SINCE = re.compile(r"(?P<count>\d+)(?P<unit>[dh])|\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?Z?)?")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')

_FIXED = frozenset(
    {"distance", "model", "pruner", "dtype", "kept", "seconds", "measured_utc", "run", "key", "architecture"}
    | {"layer_ids", "evaluation_ids", "place", *QUANTITIES, *SPEEDS}
)
"""Columns whose names no metric takes."""

_METRICS_OF_RUN = """
    SELECT n.name FROM run_evaluations u
    JOIN metric_values x ON x.evaluation_id = u.evaluation_id JOIN metrics n ON n.id = x.metric_id
    WHERE u.run_id = ? GROUP BY n.name ORDER BY min(u.position), min(n.id)"""

_RUNS_THAT_USED = """
    SELECT u.evaluation_id, max(r.id) AS run
    FROM runs r CROSS JOIN json_each(?) v
    CROSS JOIN run_evaluations u ON u.run_id = r.id AND u.evaluation_id = v.value
    WHERE r.status = 'finished' GROUP BY u.evaluation_id"""

_RUNS_OF_PRUNER = """
    WITH last AS (
        SELECT s.model_id, s.pruner_id, s.dtype, max(r.id) AS run
        FROM runs r JOIN run_evaluations u ON u.run_id = r.id
        JOIN evaluations e ON e.id = u.evaluation_id JOIN settings s ON s.id = e.setting_id
        WHERE r.status = 'finished' GROUP BY s.model_id, s.pruner_id, s.dtype
    )
    SELECT e.id AS evaluation_id, last.run
    FROM json_each(?) v JOIN evaluations e ON e.id = v.value JOIN settings s ON s.id = e.setting_id
    JOIN last ON (last.model_id, last.pruner_id, last.dtype) = (s.model_id, s.pruner_id, s.dtype)"""
"""Statements for a run of each of some evaluations, the more telling first."""


@dataclass(frozen=True)
class Filter:
    """Conditions that selected architectures meet; those left at their defaults do not filter.

    Attributes:
        model: source of the model, or the first digits of its fingerprint.
        metrics: names of metrics that must all have been measured.
        budget: ranges of quantities.
        where: an SQL condition over the columns of the result.
        run: id, name or key of a run that used the architecture, measured or reused.
        since: earliest time of measurement: ``2026-11-24``, ``2026-11-24T10:00``, or ``3d`` or ``12h`` ago.
    """

    model: str | None = None
    metrics: tuple[str, ...] = ()
    budget: Ranges = field(default_factory=dict)
    where: str | None = None
    run: int | str | None = None
    since: str | None = None

    def with_metrics(self, *names: str) -> "Filter":
        """This filter, for architectures for which these metrics, which come first, have been measured as well."""
        return replace(self, metrics=tuple(dict.fromkeys([*names, *self.metrics])))


def query(
    registry: Registry, wanted: Filter, sort: str | None = None, limit: int | None = None
) -> list[dict[str, Any]]:
    """Measured architectures, one row each, with their metrics as columns.

    Columns, in this order: ``model``, ``pruner``, ``dtype``, each metric, ``parameters``, ``kept`` (fraction of the
    dense model's), other quantities that the budget or ``sort`` names, ``METRIC.standard_error`` of each metric,
    ``METRIC.evaluator`` (the evaluator of each metric, with its options), ``seconds``, ``measured_utc``, ``run`` (a run
    that the architecture can be exported from: the one that the filter names, else the last finished one that used it,
    else the last finished one of its model, pruner and dtype, else None), ``key`` and ``architecture`` (text that
    :meth:`Architecture.parse` reads). An architecture measured under two pruners or dtypes, or with a requested metric
    by two evaluators, has a row for each. The column of a metric that is called like another column is ``metric.NAME``.

    Args:
        registry: the registry.
        wanted: the filters.
        sort: a column, ``-COLUMN`` for descending; None for the order of recording.
        limit: largest number of rows; None for all.

    Raises:
        RegistryError: no such model, metric, run or column, or a condition that SQLite does not understand.
    """
    found = find_series(registry, wanted.model, wanted.metrics)
    if sort is None:
        return _sorted(Selection(registry, found, wanted), [("place", False)], limit)
    column = sort.removeprefix("-")
    selection = Selection(registry, found, wanted, [column])
    selection.check_column(column)
    return _sorted(selection, [(column, sort.startswith("-"))], limit)


def best(registry: Registry, metric: str, wanted: Filter, limit: int | None = 10) -> list[dict[str, Any]]:
    """Measured architectures, best ``metric`` first, ties by size; columns and errors as of :func:`query`."""
    wanted = wanted.with_metrics(metric)
    found = find_series(registry, wanted.model, wanted.metrics)
    descending = bool(found) and found[0].columns[0].direction == "maximize"
    selection = Selection(registry, found, wanted)
    return _sorted(selection, [(selection.column_of(metric), descending), ("parameters", False)], limit)


def count(registry: Registry, wanted: Filter, depth: int | None = None) -> int:
    """Number of rows that :func:`query` has without a limit, of models with ``depth`` layers; errors as there."""
    return sum(rows for _, rows in _counts(registry, wanted, depth))


def count_by_evaluator(registry: Registry, metric: str, wanted: Filter) -> dict[str, int]:
    """Number of rows that :func:`best` has without a limit, by the label of the metric's evaluator; errors as there.

    Numbers of different evaluators, such as of more text, are not comparable.
    """
    counts: dict[str, int] = {}
    for series, rows in _counts(registry, wanted.with_metrics(metric)):
        evaluator = series.columns[0].evaluator_text
        counts[evaluator] = counts.get(evaluator, 0) + rows
    return {evaluator: rows for evaluator, rows in counts.items() if rows}


def _counts(registry: Registry, wanted: Filter, depth: int | None = None) -> Iterator[tuple[Series, int]]:
    """Series of models with ``depth`` layers, and the number of rows of each."""
    found = [
        series
        for series in find_series(registry, wanted.model, wanted.metrics)
        if depth in (None, len(series.shape.layers))
    ]
    for series in found:
        with Selection(registry, found, wanted).opened(series) as opened:
            yield series, opened.count()


def metrics_of_run(registry: Registry, run: int | str) -> list[str]:
    """Names of the metrics that a run has measured or reused, in the order of its stages.

    Raises:
        RegistryError: no such run.
    """
    return [str(row["name"]) for row in registry.rows(_METRICS_OF_RUN, (registry.run(run).id,))]


def architectures_of(registry: Registry, layer_ids: Sequence[str]) -> list[Architecture]:
    """Architectures from their stored form, the ids of their layers as JSON lists.

    Raises:
        RegistryError: one of them is not of this form, or refers to a layer that is not there.
    """
    if not layer_ids:
        return []
    layers = {row.pop("id"): Layer(**row) for row in registry.rows("SELECT * FROM layers")}
    try:
        every = json.loads(f"[{','.join(layer_ids)}]")
        return [Architecture(layers[number] for number in numbers) for numbers in every]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise RegistryError(
            f"{registry.path}: is damaged, an architecture is no list of layers that are there ({error}); restore a "
            "copy of it"
        ) from error


class Selection:
    """The filtered architectures of several series, which can be read repeatedly in any order.

    Args:
        registry: the registry.
        found: the series.
        wanted: the filters.
        names: columns needed in addition to the default ones; quantities among them are added.
        speeds: speeds to add as columns, NULL for series without component times.

    Raises:
        RegistryError: no such run, time or column.
    """

    def __init__(
        self,
        registry: Registry,
        found: Sequence[Series],
        wanted: Filter,
        names: Sequence[str] = (),
        speeds: Sequence[Speed] = (),
    ) -> None:
        self.found = found
        self._registry, self._wanted = registry, wanted
        self._metrics = _named(column.metric for series in found for column in series.columns)
        counted = [q for q in QUANTITIES if q != "parameters" and (q in wanted.budget or q in names)]
        self._quantities: list[Quantity] = [*counted, *speeds]
        self._run_id = None if wanted.run is None else registry.run(wanted.run).id
        self._since = None if wanted.since is None else _since(wanted.since)
        names = list(self._metrics.values())
        details = [f"{name}.{detail}" for detail in ("standard_error", "evaluator") for name in names]
        head = ["model", "pruner", "dtype", *names, "parameters", "kept", *self._quantities]
        self._columns = [*head, *details, "seconds", "measured_utc"]
        _check_where(wanted.where, self._columns)

    def column_of(self, name: str) -> str:
        """The column of a metric, or of a quantity."""
        return self._metrics.get(name, name)

    def check_column(self, name: str) -> None:
        """Raise RegistryError if there is no such column."""
        if name not in self._columns:
            raise RegistryError(f"cannot sort by {name!r}; sort by one of: {', '.join(self._columns)}")

    @contextmanager
    def opened(self, series: Series) -> Iterator["OpenSeries"]:
        """Context with the rows of one series."""
        wanted = self._wanted
        statement = SeriesStatement(series, bool(wanted.metrics), self._metrics, self._quantities)
        fixed = [*within(wanted.budget, series.shape), *([] if wanted.where is None else [f"({wanted.where}\n)"])]
        fixed += [] if self._since is None else [f"measured_utc >= '{self._since}'"]
        try:
            with reading(self._registry.path) as connection:
                add_costs(connection, self._registry, series, self._quantities)
                only_select(connection)
                yield OpenSeries(connection, statement, fixed, self._run_id)
        except (sqlite3.Error, sqlite3.Warning) as error:
            if wanted.where is None:
                raise
            columns = ", ".join(self._columns)
            raise RegistryError(f"where {wanted.where}: {error}; write an SQL condition over {columns}") from error

    def readable(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows with the columns of :func:`query`, keys and architectures as text among them."""
        architectures = architectures_of(self._registry, [row["layer_ids"] for row in rows])
        used = [self._run_id] * len(rows) if self._run_id else _last_runs(self._registry, rows)
        return [
            {column: row[column] for column in self._columns} | {"run": run, "key": each.key, "architecture": str(each)}
            for row, run, each in zip(rows, used, architectures, strict=True)
        ]


@dataclass(frozen=True)
class OpenSeries:
    """The rows of one series, on a separate connection."""

    connection: sqlite3.Connection
    statement: SeriesStatement
    conditions: Sequence[str]
    run_id: int | None

    def rows(
        self, order: Order, limit: int | None = None, conditions: Sequence[str] = (), **values: object
    ) -> list[dict[str, Any]]:
        """Rows sorted by columns; ties in the order of recording.

        Args:
            order: columns, each with True if larger values come first.
            limit: largest number of rows; None for all.
            conditions: further SQL conditions.
            values: values of the named parameters of ``conditions``.
        """
        text = self.statement.text([*self.conditions, *conditions], order, self.run_id)
        cursor = self.connection.execute(text, {"limit": -1 if limit is None else limit, **values})
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def count(self) -> int:
        """Number of rows."""
        text = self.statement.text(self.conditions, [("place", False)], self.run_id)
        (count,) = self.connection.execute(f"SELECT count(*) FROM ({text})", {"limit": -1}).fetchone()
        return int(count)


def _sorted(selection: Selection, order: Order, limit: int | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for series in selection.found:
        with selection.opened(series) as opened:
            rows += opened.rows(order, limit)
    for column, descending in reversed(order):
        rows.sort(key=lambda row, name=column: (row[name] is not None, row[name] or 0), reverse=descending)  # type: ignore[misc]
    return selection.readable(rows[:limit])


def _named(metrics: Iterable[str]) -> dict[str, str]:
    """Names of the columns of metrics: their own, but for those that another column has."""
    names: dict[str, str] = {}
    for metric in dict.fromkeys(metrics):
        name = metric
        while name in _FIXED or name in names.values():
            name = f"metric.{name}"
        names[metric] = name
    return names


def _last_runs(registry: Registry, rows: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """For each row the last finished run that used one of its evaluations, else one of its pruner, else None."""
    ids = [[each for each in json.loads(row["evaluation_ids"]) if each is not None] for row in rows]
    runs: dict[int, int] = {}
    for statement in (_RUNS_THAT_USED, _RUNS_OF_PRUNER):
        left = sorted({each for row in ids if not any(each in runs for each in row) for each in row})
        if left:
            runs |= {row["evaluation_id"]: row["run"] for row in registry.rows(statement, (json.dumps(left),))}
    return [max((runs[each] for each in row if each in runs), default=None) for row in ids]


def _check_where(where: str | None, columns: Sequence[str]) -> None:
    """Raise RegistryError for an unknown quoted column, which SQLite would take for a string."""
    for name in _QUOTED.findall(where or ""):
        if name.replace('""', '"') not in columns:
            raise RegistryError(f"where {where}: no column is called {name!r}; there are: {', '.join(columns)}")


def _since(text: str) -> str:
    """A time in the format of the registry, or a prefix of it. Raises RegistryError if ``text`` is none."""
    match = _SINCE.fullmatch(text)
    with suppress(ValueError, OverflowError):
        if match and match["unit"]:
            return utc_text(-int(match["count"]) * {"d": 86_400, "h": 3_600}[match["unit"]])
        if match:
            start = text.removesuffix("Z")
            datetime.fromisoformat(start)
            return start
    raise RegistryError(f"{text!r} is no time: write 2026-11-24, 2026-11-24T10:00, or 3d or 12h ago")
