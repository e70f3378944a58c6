"""Comparison of two runs."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from prunecast.registry.records import RunRecord, reading_result
from prunecast.registry.store import Registry

_COUNTS = ("evaluations", "measured", "reused", "seconds_spent", "seconds_saved")

_SHARED = """
    SELECT count(*) AS n FROM (
        SELECT evaluation_id FROM run_evaluations WHERE run_id = ?
        INTERSECT SELECT evaluation_id FROM run_evaluations WHERE run_id = ?
    )"""


def compare(registry: Registry, first: int | str, second: int | str) -> list[dict[str, Any]]:
    """Facts, results and costs of two runs, and the differences of their specs.

    Args:
        registry: the registry.
        first, second: id, name or key of a run, as :meth:`Registry.run` takes them.

    Returns:
        Rows of ``what``, ``first``, ``second`` and ``difference`` (second minus first; None unless both are numbers).

    Raises:
        RegistryError: there is no such run.
    """
    runs = [registry.run(first), registry.run(second)]
    counts = [next(registry.rows("SELECT * FROM run_summary WHERE run_id = ?", (run.id,))) for run in runs]
    shared = next(registry.rows(_SHARED, (runs[0].id, runs[1].id)))["n"]
    sides = []
    for run, count in zip(runs, counts, strict=True):
        with reading_result(run):
            sides.append({**_facts(run), **{name: count[name] for name in _COUNTS}})
    rows = [_row(what, *(side.get(what) for side in sides)) for what in dict.fromkeys([*sides[0], *sides[1]])]
    specs = [dict(_leaves(json.loads(run.spec_json))) for run in runs]
    differing = [path for path in dict.fromkeys([*specs[0], *specs[1]]) if specs[0].get(path) != specs[1].get(path)]
    return [
        *rows,
        _row("evaluations in both", shared, shared),
        *(_row(f"spec: {path}", *(spec.get(path) for spec in specs)) for path in differing),
    ]


def _facts(run: RunRecord) -> dict[str, Any]:
    """Facts and results of a run, by their names in the comparison."""
    result: Mapping[str, Any] = run.result or {}
    best: Mapping[str, Any] = result.get("best", {})
    predictor = result.get("predictor", {})
    return {
        "run": run.id,
        "name": run.name,
        "status": run.status,
        "model": result.get("model", {}).get("source"),
        **{f"predictor: {name}": predictor.get(name) for name in ("use", "pairs", "r2", "kendall_tau")},
        "best: parameters": best.get("parameters"),
        **{f"best: {metric}": value for metric, value in best.get("metrics", {}).items()},
        **{
            f"{baseline['name']}: {metric}": value
            for baseline in result.get("baselines", ())
            for metric, value in baseline["metrics"].items()
        },
        "seconds in all": result.get("seconds"),
    }


def _row(what: str, first: Any, second: Any) -> dict[str, Any]:
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in (first, second))
    difference = second - first if numbers and what != "run" else None
    return {"what": what, "first": first, "second": second, "difference": difference}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of nested mappings and lists with its path, e.g. ``evaluators.0.tokens``."""
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if not entries:
        yield path, value
        return
    for name, below in entries:
        yield from _leaves(below, f"{path}.{name}" if path else str(name))
