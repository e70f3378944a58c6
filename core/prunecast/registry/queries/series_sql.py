"""SELECT statements over the architectures of a series, with metrics as columns."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunecast.architecture.shape import CONTEXTUAL, ModelShape, Quantity
from prunecast.architecture.speed import NANOSECONDS, SPEEDS, Speed
from prunecast.registry.queries.ranges import Ranges, absolute_limits
from prunecast.registry.queries.series import Column, Series
from prunecast.registry.store import Registry

NOTHING = "''"

Order = Sequence[tuple[str, bool]]
"""Columns to sort by, each with True if larger values come first."""


@dataclass(frozen=True)
class SeriesStatement:
    """SELECT statement over a series.

    Attributes:
        series: the series.
        complete: True for architectures that have every metric of the series, False for those that have any.
        metrics: names of the metric columns of the result, by metric; those the series lacks are NULL.
        quantities: quantities in addition to ``parameters``, as columns of their own; speeds in milliseconds, NULL if
            the series has no component times.
    """

    series: Series
    complete: bool
    metrics: Mapping[str, str]
    quantities: Sequence[Quantity]

    def text(self, conditions: Sequence[str], order: Order, run_id: int | None) -> str:
        """Text of the statement for rows that meet all conditions; its parameter ``:limit`` is -1 for no limit.

        The outermost loop is over the index that has the values of the first metric in order, so that the best rows
        within a budget of parameters are found without reading the others. If rows are sorted by time of recording, the
        outermost loop is over the evaluations.

        Args:
            conditions: SQL conditions over the columns.
            order: columns to sort by, each with True if larger values come first; ties in the order of recording.
            run_id: only architectures whose evaluations this run used; None for all.
        """
        order_by = "".join(f"{quoted(column)} {'DESC' if falls else 'ASC'}, " for column, falls in order)
        in_order = order[0][0] == "place"
        columns = ", ".join(self._columns(in_order))
        return (
            f"SELECT * FROM (SELECT {columns} FROM {self._tables(in_order)} WHERE {self._used_by(run_id)})"
            f" WHERE {' AND '.join(conditions) or 1} ORDER BY {order_by}place LIMIT :limit"
        )

    def _columns(self, in_order: bool) -> list[str]:
        places = range(len(self.series.columns))
        evaluations = "e{}.{}".format
        values = {column.metric: place for place, column in enumerate(self.series.columns)}
        # Read from the index, so that limits are checked before any table is read.
        parameters = "x0.parameters" if self.complete else _first([f"x{place}.parameters" for place in places])
        dense = int(self.series.shape.count([self.series.shape.dense])[0])
        seconds = " + ".join(f"coalesce({evaluations(place, 'seconds')}, 0.0)" for place in self._one_a_setting())
        quantities: dict[Quantity, str] = {
            "parameters_without_embeddings": f"{parameters} - {self.series.shape.embeddings}",
            **{quantity: costs_column(quantity, self.series.shape) for quantity in CONTEXTUAL},
            **{speed: milliseconds(speed, self.series.timed) for speed in SPEEDS},
        }
        return [
            f"{literal(self.series.model)} AS model",
            f"{literal(self.series.pruner_text)} AS pruner",
            f"{literal(self.series.dtype)} AS dtype",
            *(f"{self._value(values, m, 'value')} AS {quoted(name)}" for m, name in self.metrics.items()),
            f"{parameters} AS parameters",
            f"CAST({parameters} AS REAL) / {dense} AS kept",
            *(f"{quantities[quantity]} AS {quoted(quantity)}" for quantity in self.quantities),
            *(
                f"{self._value(values, m, 'standard_error')} AS {quoted(f'{name}.standard_error')}"
                for m, name in self.metrics.items()
            ),
            *(f"{self._evaluator(values, m)} AS {quoted(f'{name}.evaluator')}" for m, name in self.metrics.items()),
            f"{seconds} AS seconds",
            f"{_first([evaluations(place, 'measured_utc') for place in places], latest=True)} AS measured_utc",
            "a.layer_ids_json AS layer_ids",
            f"json_array({', '.join(evaluations(place, 'id') for place in places)}) AS evaluation_ids",
            f"{('e0.id' if in_order else 'x0.evaluation_id') if self.complete else 'a.id'} AS place",
        ]

    def _value(self, places: dict[str, int], metric: str, column: str) -> str:
        if metric not in places:
            return "NULL"
        leads = self.complete and places[metric] == 0
        return f"{'y' if leads and column == 'standard_error' else 'x'}{places[metric]}.{column}"

    def _evaluator(self, places: dict[str, int], metric: str) -> str:
        if metric not in places:
            return "NULL"
        evaluator = literal(self.series.columns[places[metric]].evaluator_text)
        return f"CASE WHEN {self._value(places, metric, 'value')} IS NOT NULL THEN {evaluator} END"

    def _one_a_setting(self) -> list[int]:
        settings = [column.setting_id for column in self.series.columns]
        return [settings.index(setting) for setting in dict.fromkeys(settings)]

    def _tables(self, in_order: bool) -> str:
        """FROM clause, outermost loop first; CROSS JOIN keeps SQLite from reordering the loops."""
        first, *others = self.series.columns
        if not self.complete:
            any_of = ", ".join(str(setting) for setting in dict.fromkeys(c.setting_id for c in self.series.columns))
            driver = f"(SELECT DISTINCT architecture_id AS id FROM evaluations WHERE setting_id IN ({any_of})) d"
            joins = [_join("LEFT JOIN", place, column) for place, column in enumerate(self.series.columns)]
            return " ".join([driver, "CROSS JOIN architectures a ON a.id = d.id", *joins])
        # x0 reads the index alone; the columns that it lacks come from y0, the same row read from the table.
        leading = (
            "evaluations e0 CROSS JOIN metric_values x0" if in_order else "metric_values x0 CROSS JOIN evaluations e0"
        )
        driver = (
            f"{leading} ON e0.id = x0.evaluation_id AND x0.metric_id = {first.metric_id} "
            f"AND x0.setting_id = {first.setting_id} AND e0.setting_id = {first.setting_id} "
            "CROSS JOIN architectures a ON a.id = e0.architecture_id "
            f"CROSS JOIN metric_values y0 ON y0.evaluation_id = x0.evaluation_id AND y0.metric_id = {first.metric_id}"
        )
        return " ".join([driver, *(_join("CROSS JOIN", place, column) for place, column in enumerate(others, start=1))])

    def _used_by(self, run_id: int | None) -> str:
        if run_id is None:
            return "1"
        ids = ", ".join(f"e{place}.id" for place in range(len(self.series.columns)))
        return f"EXISTS (SELECT 1 FROM run_evaluations r WHERE r.run_id = {run_id} AND r.evaluation_id IN ({ids}))"


def within(budget: Ranges, shape: ModelShape) -> list[str]:
    """SQL conditions for the quantities of architectures of the model to be within the ranges."""
    return [
        f"{quoted(quantity)} {sign} {limit}"
        for quantity, limits in absolute_limits(budget, shape).items()
        for sign, limit in zip((">=", "<="), limits, strict=True)
        if limit is not None
    ]


def add_costs(
    connection: sqlite3.Connection, registry: Registry, series: Series, quantities: Sequence[Quantity]
) -> None:
    """Create the temporary tables of :func:`costs_column`: costs of each layer at each position in such a model.

    Positions whose layers cost the same are one kind of position.
    """
    layers = list(registry.rows("SELECT id, kv_groups, heads_per_group, mlp_width FROM layers"))
    counted = {quantity: series.timed if quantity in SPEEDS else series.shape for quantity in quantities}
    shapes = {each: shape for each, shape in counted.items() if shape is not None and each in (*CONTEXTUAL, *SPEEDS)}
    if not layers or not shapes:
        return
    shape = series.shape
    kinds = list(dict.fromkeys(shape.layers))
    connection.execute("CREATE TEMP TABLE positions (position INTEGER PRIMARY KEY, kind INTEGER)")
    positions = [(position, kinds.index(layer)) for position, layer in enumerate(shape.layers)]
    connection.executemany("INSERT INTO positions VALUES (?, ?)", positions)
    sizes = np.array([[list(layer.values())[1:]] for layer in layers], dtype=np.int64)
    for quantity, counting in shapes.items():
        connection.execute(
            f"CREATE TEMP TABLE costs_{quantity} "
            "(kind INTEGER, layer_id INTEGER, cost INTEGER, PRIMARY KEY (kind, layer_id)) WITHOUT ROWID"
        )
        for kind, layer in enumerate(kinds):
            attention, mlp = counting.component_costs(sizes, quantity, [shape.layers.index(layer)])
            costs = zip(layers, (attention + mlp)[:, 0].tolist(), strict=True)
            connection.executemany(
                f"INSERT INTO costs_{quantity} VALUES (?, ?, ?)", [(kind, row["id"], cost) for row, cost in costs]
            )


def milliseconds(speed: Speed, timed: ModelShape | None) -> str:
    """SQL expression of a speed for a row ``a`` of ``architectures``; NULL without component times."""
    return "NULL" if timed is None else f"{costs_column(speed, timed)} / {float(NANOSECONDS)}"


def costs_column(quantity: Quantity, shape: ModelShape) -> str:
    """SQL expression of a quantity that is a sum over layers, for a row ``a`` of ``architectures``."""
    fixed, tokens = shape.fixed_cost(quantity), shape.tokens(quantity)
    return (
        f"(SELECT (sum(c.cost) + {fixed + tokens - 1}) / {tokens} FROM json_each(a.layer_ids_json) ids "
        f"CROSS JOIN temp.positions p ON p.position = ids.key "
        f"CROSS JOIN temp.costs_{quantity} c ON c.kind = p.kind AND c.layer_id = ids.value)"
    )


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _join(kind: str, place: int, column: Column) -> str:
    return (
        f"{kind} evaluations e{place} ON e{place}.architecture_id = a.id AND e{place}.setting_id = {column.setting_id} "
        f"{kind} metric_values x{place} ON x{place}.evaluation_id = e{place}.id "
        f"AND x{place}.metric_id = {column.metric_id}"
    )


def _first(expressions: Sequence[str], latest: bool = False) -> str:
    if len(expressions) == 1:
        return expressions[0]
    if latest:
        return f"max({', '.join(f'coalesce({each}, {NOTHING})' for each in expressions)})"
    return f"coalesce({', '.join(expressions)})"
