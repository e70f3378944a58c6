"""Statistics of a registry: counts and times, the mean time of an evaluation, and SQL queries of users.

The other queries have modules of their own beside this one: ``selection`` (``query`` and ``best``), ``pareto``,
``nearest``, ``compare_runs``, ``show`` and ``pairs``. The order of rows is fixed: the same file gives the same rows.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain, count
from typing import Any

from prunecast.errors import RegistryError
from prunecast.registry.records import Setting
from prunecast.registry.sqlite.database import one_line_errors, only_select, reading
from prunecast.registry.store import Registry

_COUNTED = ("models", "pruners", "evaluators", "settings", "architectures", "evaluations", "metric_values", "runs")


def stats(registry: Registry) -> dict[str, int | float]:
    """Counts of rows, times and size of the registry.

    Returns:
        Number of rows by table; ``seconds_spent`` measuring; ``seconds_saved`` by evaluations that runs reused instead
        of measuring them; and ``bytes`` on disk.
    """
    counts: dict[str, int | float] = {}
    for table in _COUNTED:
        counts[table] = next(registry.rows(f"SELECT count(*) AS n FROM {table}"))["n"]
    spent = "SELECT coalesce(sum(seconds), 0.0) AS s FROM evaluations"
    saved = "SELECT coalesce(sum(seconds_saved), 0.0) AS s FROM run_summary"
    counts["seconds_spent"] = next(registry.rows(spent))["s"]
    counts["seconds_saved"] = next(registry.rows(saved))["s"]
    with one_line_errors(registry.path):
        counts["bytes"] = registry.path.stat().st_size
    return counts


def mean_seconds(registry: Registry, setting: Setting) -> float | None:
    """Mean duration of evaluations under ``setting`` in seconds; None if there are none."""
    setting_id = registry.setting_id(setting)
    statement = "SELECT avg(seconds) AS mean FROM evaluations WHERE setting_id = ?"
    mean = next(registry.rows(statement, (setting_id,)))["mean"]
    return None if mean is None else float(mean)


def sql(registry: Registry, statement: str) -> list[dict[str, Any]]:
    """Rows of one SELECT statement; BLOBs are returned as hexadecimal text.

    Of columns of the same name, all but the first get a number: ``id``, ``id_2``, ``id_3``.

    Raises:
        RegistryError: the statement does more than read the registry, is not valid, or returns no columns.
    """
    try:
        with reading(registry.path) as connection:
            only_select(connection)
            cursor = connection.execute(statement)
            names = distinct([column[0] for column in cursor.description or ()])
            rows = [dict(zip(names, map(_as_json_value, row), strict=True)) for row in cursor]
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _no_select(registry, str(error)) from error
    if not names:
        raise _no_select(registry, "no rows to return")
    return rows


def distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, of which each that was there before gets the first number that makes it another one."""
    found: dict[str, None] = {}
    for name in names:
        numbered = (f"{name}_{number}" for number in count(2))
        taken = {*found, *names} if name in found else found
        found[next(each for each in chain([name], numbered) if each not in taken)] = None
    return list(found)


def _no_select(registry: Registry, reason: str) -> RegistryError:
    names = sorted(registry.database.table_names() + registry.database.view_names())
    known = ", ".join(name for name in names if not name.startswith("_"))
    return RegistryError(f"{registry.path}: {reason}; write one SELECT statement over: {known}")


def _as_json_value(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
