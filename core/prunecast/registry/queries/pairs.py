"""Pairs: architectures with their measured metrics, the training data of predictors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import Architecture
from prunecast.errors import RegistryError
from prunecast.registry.queries.selection import architectures_of
from prunecast.registry.queries.series import Series, find_series
from prunecast.registry.records import Setting
from prunecast.registry.store import Registry

if TYPE_CHECKING:
    import pandas

_UNDER_ALL = """
    SELECT a.key, a.layer_ids_json FROM evaluations e JOIN architectures a ON a.id = e.architecture_id
    WHERE e.setting_id = :first AND (
        SELECT count(*) FROM evaluations o
        WHERE o.architecture_id = e.architecture_id AND o.setting_id IN ({settings})
            AND (o.run_id IS NULL OR o.run_id NOT IN (SELECT id FROM runs WHERE key = :run))
    ) = :count
    ORDER BY a.key"""


@dataclass(frozen=True)
class Pairs:
    """Architectures of one series that have all of its metrics.

    Attributes:
        series: model, pruner, dtype and evaluators they were measured under.
        architectures: the N architectures, in the order of recording.
        metrics: metrics by name, one mapping for each architecture.
        standard_errors: their standard errors by name, in the unit of the metric; None if unknown.
        others: other series that match what was asked for, each with its number of pairs.
    """

    series: Series
    architectures: list[Architecture]
    metrics: list[dict[str, float]]
    standard_errors: list[dict[str, float | None]]
    others: tuple[tuple[Series, int], ...] = ()

    def __len__(self) -> int:
        return len(self.architectures)

    @property
    def names(self) -> list[str]:
        """Names of the metrics."""
        return [column.metric for column in self.series.columns]

    @property
    def frame(self) -> "pandas.DataFrame":
        """A frame of N rows: metrics, ``parameters``, ``kept``, standard errors, ``key`` and ``architecture``."""
        import pandas

        shape = self.series.shape
        parameters = shape.count(self.architectures).tolist() if self.architectures else []
        dense = int(shape.count([shape.dense])[0])
        return pandas.DataFrame(
            {
                **metrics,
                "parameters": count,
                "kept": count / dense,
                **{f"{name}.standard_error": error for name, error in errors.items()},
                "key": architecture.key,
                "architecture": str(architecture),
            }
            for architecture, metrics, errors, count in zip(
                self.architectures, self.metrics, self.standard_errors, parameters, strict=True
            )
        )


def find_pairs(
    registry: Registry,
    model: str,
    metrics: Sequence[str],
    pruner: str | None = None,
    dtype: str | None = None,
    evaluators: Sequence[str] = (),
) -> Pairs:
    """Pairs that have all of ``metrics``, of the series that has most of them.

    Args:
        registry: the registry.
        model: source of the model, or the first digits of its fingerprint.
        metrics: names of one or more metrics.
        pruner: only pruners of this name, or whose content key starts with these digits.
        dtype: only this number format.
        evaluators: only series whose metrics were measured by evaluators of these content keys; empty for any.

    Raises:
        RegistryError: no such model or metric, or no architecture has all of them under one pruner and dtype.
    """
    fitting = [
        series
        for series in find_series(registry, model, metrics)
        if series.is_pruned_by(pruner)
        and dtype in (None, series.dtype)
        and (not evaluators or {column.evaluator_key for column in series.columns} <= set(evaluators))
    ]
    counts = [_count(registry, series) for series in fitting]
    if not any(counts):
        raise RegistryError(
            f"{registry.path}: no architecture of {model} has {', '.join(metrics)}, all under one pruner"
            f"{'' if pruner is None else f' ({pruner})'} and dtype; measure some with a spec"
        )
    chosen = counts.index(max(counts))
    others = [(series, count) for n, (series, count) in enumerate(zip(fitting, counts, strict=True)) if n != chosen]
    return replace(_read(registry, fitting[chosen]), others=tuple((series, count) for series, count in others if count))


def measured_by_others(registry: Registry, settings: Sequence[Setting], run_key: str) -> list[Architecture]:
    """Architectures measured under all of ``settings`` by other runs than that of ``run_key``, sorted by their keys.

    Evaluations of the run itself are left out, because they were not there when it started: a run that is continued
    proposes the same as before, unless other runs have measured meanwhile.
    """
    ids = [registry.setting_id(setting) for setting in settings]
    if not ids or None in ids:
        return []
    statement = _UNDER_ALL.format(settings=", ".join(map(str, ids)))
    rows = registry.rows(statement, {"first": ids[0], "run": run_key, "count": len(set(ids))})
    return architectures_of(registry, [row["layer_ids_json"] for row in rows])


def _count(registry: Registry, series: Series) -> int:
    """Number of architectures that have every metric of the series."""
    row = next(registry.rows(f"SELECT count(*) AS n FROM {_complete(series)}"))
    return int(row["n"])


def _read(registry: Registry, series: Series) -> Pairs:
    values = ", ".join(
        f"x{place}.value AS value{place}, x{place}.standard_error AS error{place}"
        for place in range(len(series.columns))
    )
    statement = f"""
        SELECT a.layer_ids_json, {values} FROM {_complete(series)}
        JOIN architectures a ON a.id = e0.architecture_id ORDER BY e0.id"""
    rows = list(registry.rows(statement))
    names = [column.metric for column in series.columns]
    return Pairs(
        series,
        architectures_of(registry, [row["layer_ids_json"] for row in rows]),
        [{name: row[f"value{place}"] for place, name in enumerate(names)} for row in rows],
        [{name: row[f"error{place}"] for place, name in enumerate(names)} for row in rows],
    )


def _complete(series: Series) -> str:
    """FROM clause over evaluations ``e0``, ``e1``, ... and values ``x0``, ``x1``, ..., numbered like the columns."""
    first, *others = series.columns
    joins = [
        f"evaluations e0 CROSS JOIN metric_values x0 ON e0.setting_id = {first.setting_id} "
        f"AND x0.evaluation_id = e0.id AND x0.metric_id = {first.metric_id}"
    ]
    joins += [
        f"CROSS JOIN evaluations e{place} ON e{place}.architecture_id = e0.architecture_id "
        f"AND e{place}.setting_id = {column.setting_id} "
        f"CROSS JOIN metric_values x{place} ON x{place}.evaluation_id = e{place}.id "
        f"AND x{place}.metric_id = {column.metric_id}"
        for place, column in enumerate(others, start=1)
    ]
    return " ".join(joins)
