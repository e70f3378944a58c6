"""Pairs: architectures with their measured metrics, ready for a predictor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.errors import RegistryError
from prunecast.registry.queries.selection import Filter, Selection, architectures_of
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
    """Pairs of one series.

    Attributes:
        series: what they were measured under.
        architectures: N of them, in the order they were measured.
        rows: what :func:`prunecast.registry.queries.selection.query` says of each.
    """

    series: Series
    architectures: list[Architecture]
    rows: list[dict[str, Any]]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics."""
        return [column.metric for column in self.series.columns]

    @property
    def frame(self) -> "pandas.DataFrame":
        """A frame of N rows: the metrics, ``parameters``, ``kept``, standard errors and the architecture as text."""
        import pandas

        return pandas.DataFrame(self.rows)

    @property
    def targets(self) -> Floats:
        """The metrics on the scale predictors learn, shape (N, M): logarithms where the metric's scale is ``log``."""
        values = np.array([[row[metric] for metric in self.metrics] for row in self.rows], dtype=np.float64)
        logarithmic = np.array([column.scale == "log" for column in self.series.columns])
        return np.where(logarithmic, np.log(np.where(logarithmic, values, 1.0)), values)

    @property
    def lost(self) -> Floats | None:
        """The targets less those of the dense model, shape (N, M); None if that has not been measured."""
        if self.series.shape.dense not in self.architectures:
            return None
        targets = self.targets
        return np.asarray(targets - targets[self.architectures.index(self.series.shape.dense)], dtype=np.float64)


def find_pairs(
    registry: Registry,
    model: str,
    metrics: Sequence[str],
    pruner: str | None = None,
    dtype: str | None = None,
    evaluators: Sequence[str] = (),
) -> Pairs:
    """The pairs of the series that has most of them, all with every one of ``metrics``.

    Args:
        registry: where to look.
        model: source of the model, or the first digits of its fingerprint.
        metrics: at least one metric.
        pruner: only pruners of this content key, or of this name.
        dtype: only this number format.
        evaluators: only series whose metrics were measured by evaluators of these content keys; empty: by any.

    Raises:
        RegistryError: no such model or metric, or no architecture has all of them under one pruner and dtype.
    """
    fitting = [
        series
        for series in find_series(registry, model, metrics)
        if pruner in (None, series.pruner, series.pruner_key)
        and dtype in (None, series.dtype)
        and (not evaluators or {column.evaluator_key for column in series.columns} <= set(evaluators))
    ]
    candidates = [_pairs(registry, series, metrics) for series in fitting]
    if not any(pairs.rows for pairs in candidates):
        raise RegistryError(
            f"{registry.path}: no architecture of {model} has {', '.join(metrics)}, all under one pruner"
            f"{'' if pruner is None else f' ({pruner})'} and dtype; measure some with a spec"
        )
    return max(candidates, key=lambda pairs: len(pairs.rows))


def measured_by_others(registry: Registry, settings: Sequence[Setting], run_key: str) -> list[Architecture]:
    """Architectures measured under every one of ``settings``, none of it by the run of this key; sorted by their keys.

    What that run has measured, be it under one of the settings only, was not there when it began.
    """
    ids = [registry.setting_id(setting) for setting in settings]
    if not ids or None in ids:
        return []
    statement = _UNDER_ALL.format(settings=", ".join(map(str, ids)))
    rows = registry.rows(statement, {"first": ids[0], "run": run_key, "count": len(set(ids))})
    return architectures_of(registry, [row["layer_ids_json"] for row in rows])


def _pairs(registry: Registry, series: Series, metrics: Sequence[str]) -> Pairs:
    selection = Selection(registry, [series], Filter(metrics=tuple(metrics)))
    with selection.opened(series) as opened:
        rows = opened.rows([("place", False)])
    architectures = architectures_of(registry, [row["layer_ids"] for row in rows])
    return Pairs(series, architectures, selection.readable(rows))
