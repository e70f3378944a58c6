"""Questions to a registry. Every answer is in a fixed order: same file, same rows."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from prunecast.architecture import Architecture
from prunecast.budget import Budget
from prunecast.errors import RegistryError
from prunecast.registry.database import connect_readonly, told_in_one_line
from prunecast.registry.records import Setting, shape_from_json
from prunecast.registry.store import Registry
from prunecast.shape import Quantity

COLUMNS = (
    "model",
    "pruner",
    "evaluator",
    "dtype",
    "metric",
    "value",
    "standard_error",
    "count",
    "parameters",
    "kept",
    "seconds",
    "device",
    "measured_utc",
    "architecture",
)
"""Columns of :func:`query` and :func:`best`, in this order: ``kept`` is the fraction of the dense model's parameters,
``architecture`` the text of :meth:`prunecast.architecture.Architecture.parse`."""

_COUNTED = ("models", "pruners", "evaluators", "settings", "architectures", "evaluations", "metric_values", "runs")

_SORTABLE = tuple(column for column in COLUMNS if column != "architecture")

# A SELECT needs no more than these; above all no ATTACH, by which VACUUM INTO too writes files.
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


def stats(registry: Registry) -> dict[str, int | float]:
    """Counts of everything the registry holds.

    Returns:
        Rows of each table by its name; ``seconds_spent`` measuring, ``seconds_saved`` by evaluations a run found here
        instead of measuring them, and ``bytes`` on disk.
    """
    counts: dict[str, int | float] = {}
    for table in _COUNTED:
        counts[table] = next(registry.rows(f"SELECT count(*) AS n FROM {table}"))["n"]
    spent = "SELECT coalesce(sum(seconds), 0.0) AS s FROM evaluations"
    saved = "SELECT coalesce(sum(seconds_saved), 0.0) AS s FROM run_summary"
    counts["seconds_spent"] = next(registry.rows(spent))["s"]
    counts["seconds_saved"] = next(registry.rows(saved))["s"]
    with told_in_one_line(registry.path):
        counts["bytes"] = registry.path.stat().st_size
    return counts


def mean_seconds(registry: Registry, setting: Setting) -> float | None:
    """Mean time of an evaluation under ``setting`` in seconds; None if there is none."""
    setting_id = registry.setting_id(setting)
    statement = "SELECT avg(seconds) AS mean FROM evaluations WHERE setting_id = ?"
    mean = next(registry.rows(statement, (setting_id,)))["mean"]
    return None if mean is None else float(mean)


def query(
    registry: Registry,
    model: str | None = None,
    metric: str | None = None,
    run: int | str | None = None,
    sort: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Measurements, one row a metric, with the columns :data:`COLUMNS`.

    Args:
        registry: where to look.
        model: only this model: its source, or the first digits of its fingerprint.
        metric: only this metric.
        run: only what this run used, measured or found: see :meth:`Registry.run`.
        sort: a column to sort by, ``-COLUMN`` for descending; else in the order they were measured.
        limit: at most so many rows.

    Raises:
        RegistryError: no such model, metric, run or column in the registry.
    """
    where, parameters = _where(registry, model, metric)
    if run is not None:
        where.append("evaluation_id IN (SELECT evaluation_id FROM run_evaluations WHERE run_id = :run)")
        parameters["run"] = registry.run(run).id
    order = [] if sort is None else [_order(sort)]
    parameters["limit"] = -1 if limit is None else limit
    statement = _select(where, [*order, "evaluation_id", "metric"]) + " LIMIT :limit"
    return [_readable(row) for row in registry.rows(statement, parameters)]


def best(
    registry: Registry,
    metric: str,
    model: str | None = None,
    budget: Mapping[Quantity, float] | None = None,
    limit: int | None = 10,
) -> list[dict[str, Any]]:
    """Measurements of ``metric``, best first, of architectures that meet the budget, with the columns :data:`COLUMNS`.

    Args:
        registry: where to look.
        metric: the metric to compare by, in its own direction.
        model: only this model: its source, or the first digits of its fingerprint.
        budget: upper limits as a spec writes them: up to 1 a fraction of the dense model, above 1 an absolute count.
        limit: at most so many rows.

    Raises:
        RegistryError: no such model or metric in the registry.
    """
    where, parameters = _where(registry, model, metric)
    budgets = {
        row["key"]: Budget.of(shape_from_json(row["shape_json"]), budget or {})
        for row in registry.rows("SELECT key, shape_json FROM models")
    }
    better_first = "CASE direction WHEN 'maximize' THEN -value ELSE value END"
    found: list[dict[str, Any]] = []
    for row in registry.rows(_select(where, [better_first, "parameters", "evaluation_id"]), parameters):
        if len(found) == limit:
            break
        if budgets[row["model_key"]].met_by(Architecture.from_json(row["layers_json"])):
            found.append(_readable(row))
    return found


def sql(registry: Registry, statement: str) -> list[dict[str, Any]]:
    """Rows of one SELECT statement; BLOBs come as hexadecimal text.

    Raises:
        RegistryError: the statement would do anything but read the registry, or SQLite does not understand it.
    """
    try:
        with told_in_one_line(registry.path), closing(connect_readonly(registry.path)) as connection:
            connection.set_authorizer(_only_reading)
            cursor = connection.execute(statement)
            names = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(names, map(_as_json_value, row), strict=True)) for row in cursor]
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _no_select(registry, str(error)) from error
    if not names:
        raise _no_select(registry, "no rows to return")
    return rows


def _where(registry: Registry, model: str | None, metric: str | None) -> tuple[list[str], dict[str, object]]:
    where: list[str] = []
    parameters: dict[str, object] = {}
    if model is not None:
        models = {row["key"]: row["source"] for row in registry.rows("SELECT key, source FROM models ORDER BY id")}
        if not any(source == model or (model and key.startswith(model)) for key, source in models.items()):
            raise _unknown(registry, "model", model, list(models.values()))
        where.append("(model = :model OR substr(model_key, 1, length(:model)) = :model)")
        parameters["model"] = model
    if metric is not None:
        metrics = [row["name"] for row in registry.rows("SELECT DISTINCT name FROM metrics ORDER BY name")]
        if metric not in metrics:
            raise _unknown(registry, "metric", metric, metrics)
        where.append("metric = :metric")
        parameters["metric"] = metric
    return where, parameters


def _unknown(registry: Registry, kind: str, name: str, known: list[str]) -> RegistryError:
    return RegistryError(f"{registry.path}: no {kind} is called {name!r}; it holds: {', '.join(known) or 'none'}")


def _order(sort: str) -> str:
    column = sort.removeprefix("-")
    if column not in _SORTABLE:
        raise RegistryError(f"cannot sort by {column!r}; sort by one of: {', '.join(_SORTABLE)}")
    return f"{column} DESC" if sort.startswith("-") else column


def _select(where: list[str], order: list[str]) -> str:
    return f"SELECT * FROM metric_measurements WHERE {' AND '.join(where) or 1} ORDER BY {', '.join(order)}"


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    row["architecture"] = str(Architecture.from_json(row["layers_json"]))
    return {column: row[column] for column in COLUMNS}


def _no_select(registry: Registry, reason: str) -> RegistryError:
    names = sorted(registry.database.table_names() + registry.database.view_names())
    known = ", ".join(name for name in names if not name.startswith("_"))
    return RegistryError(f"{registry.path}: {reason}; write one SELECT statement over: {known}")


def _only_reading(action: int, *subject: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _as_json_value(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
