"""Series: evaluations whose numbers are comparable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any, Literal

from prunecast.architecture.shape import ModelShape
from prunecast.errors import RegistryError
from prunecast.registry.labels import Labels
from prunecast.registry.records import shape_from_json
from prunecast.registry.store import LEAST_DIGITS, Registry
from prunecast.text import counted

_COLUMNS = """
    SELECT s.id AS setting_id, n.id AS metric_id, n.name AS metric, n.direction, n.unit, n.scale,
        m.id AS model_id, m.key AS model_key, m.source, m.shape_json,
        p.id AS pruner_id, p.key AS pruner_key, p.name AS pruner, p.options_json AS pruner_options_json,
        v.id AS evaluator_id, v.key AS evaluator_key, v.name AS evaluator,
        v.options_json AS evaluator_options_json, s.dtype
    FROM settings s CROSS JOIN metrics n
    JOIN models m ON m.id = s.model_id JOIN pruners p ON p.id = s.pruner_id JOIN evaluators v ON v.id = s.evaluator_id
    WHERE EXISTS (SELECT 1 FROM metric_values x WHERE x.metric_id = n.id AND x.setting_id = s.id)
    ORDER BY m.id, p.id, s.dtype, n.id, s.id"""

_COUNT = "SELECT count(*) AS n FROM metric_values WHERE metric_id = ? AND setting_id = ?"


@dataclass(frozen=True)
class Column:
    """A metric of a series: one metric under one setting; ``evaluator_text`` is the label of the evaluator."""

    metric: str
    direction: Literal["minimize", "maximize"]
    unit: str
    scale: Literal["linear", "log"]
    metric_id: int
    setting_id: int
    evaluator_id: int
    evaluator_key: str
    evaluator: str
    evaluator_options_json: str
    evaluator_text: str

    @property
    def better_first(self) -> str:
        """``ASC`` or ``DESC``: the order that has better values first."""
        return "ASC" if self.direction == "minimize" else "DESC"


@dataclass(frozen=True)
class Series:
    """One model under one pruner and dtype, each metric measured by one evaluator, so that numbers are comparable.

    Attributes:
        model: label of the model, which begins with its source.
        model_id, model_key, shape: the model's row, fingerprint and sizes.
        pruner, pruner_options_json, pruner_key: name, options and content key of the pruner.
        pruner_text: label of the pruner; labels are those of :class:`prunecast.registry.labels.Labels`.
        dtype: number format of the weights.
        columns: the metrics, in the requested order.
        timed: the sizes with component times, by which speeds are predicted; None if none were chosen.
    """

    model: str
    model_id: int
    model_key: str
    shape: ModelShape
    pruner: str
    pruner_options_json: str
    pruner_key: str
    pruner_text: str
    dtype: str
    columns: tuple[Column, ...]
    timed: ModelShape | None = None

    def is_pruned_by(self, pruner: str | None) -> bool:
        """True if the pruner has this name, or a content key that starts with these digits; None matches any."""
        return pruner in (None, self.pruner) or (
            len(str(pruner)) >= LEAST_DIGITS and self.pruner_key.startswith(str(pruner))
        )

    def column(self, metric: str) -> Column | None:
        """The column of a metric; None if the series does not have it."""
        return next((column for column in self.columns if column.metric == metric), None)

    def __str__(self) -> str:
        return f"{self.model}, {self.pruner_text}, {self.dtype}"


def find_shape(registry: Registry, model: str) -> ModelShape | None:
    """Sizes of a model, found by its source or the first digits of its fingerprint; None if there is none."""
    rows = registry.rows("SELECT key, source, shape_json FROM models ORDER BY id")
    found = (row for row in rows if row["source"] == model or (model and row["key"].startswith(model)))
    return next((shape_from_json(row["shape_json"]) for row in found), None)


def model_of_depth(registry: Registry, depth: int) -> str:
    """Fingerprint of the one model of the registry that has ``depth`` layers.

    Raises:
        RegistryError: there is none, or more than one.
    """
    rows = list(registry.rows("SELECT key, source, shape_json FROM models ORDER BY id"))
    depths = {row["key"]: len(shape_from_json(row["shape_json"]).dense.layers) for row in rows}
    found = [key for key, layers in depths.items() if layers == depth]
    if len(found) == 1:
        return str(found[0])
    held = ", ".join(f"{row['source']} ({row['key'][:8]}, {counted(depths[row['key']], 'layer')})" for row in rows)
    wanted = counted(depth, "layer")
    if not found:
        raise RegistryError(f"{registry.path}: no model has {wanted}; it holds: {held or 'none'}")
    raise RegistryError(f"{registry.path}: {len(found)} models have {wanted}; name one as the model, it holds: {held}")


def find_series(registry: Registry, model: str | None = None, metrics: Sequence[str] = ()) -> list[Series]:
    """Series with values of each of ``metrics``, in the order in which models and pruners were recorded.

    If several evaluators measure a requested metric, each gives a series of its own. Without ``metrics`` there is one
    series for each model, pruner and dtype, with all metrics, each by the evaluator with most values.

    Args:
        registry: the registry.
        model: only this model: its source, or the first digits of its fingerprint.
        metrics: names of the metrics; empty for all.

    Raises:
        RegistryError: no such model or metric in the registry.
    """
    rows = list(registry.rows(_COLUMNS))
    check_known(registry, "metric", metrics, [row["metric"] for row in rows])
    if model is not None:
        named = [row for row in rows if row["source"] == model or (model and row["model_key"].startswith(model))]
        if not named:
            check_known(
                registry, "model", [model], [row["source"] for row in registry.rows("SELECT source FROM models")]
            )
        rows = named
    found, labels = [], Labels.of(registry)
    for _, group in groupby(rows, key=lambda row: (row["model_id"], row["pruner_id"], row["dtype"])):
        candidates: dict[str, list[dict[str, Any]]] = {}
        for row in group:
            candidates.setdefault(row["metric"], []).append(row)
        if metrics:
            if set(metrics) <= set(candidates):
                found += [_series(choice, labels) for choice in product(*(candidates[metric] for metric in metrics))]
        else:
            found.append(_series([_most_measured(registry, choices) for choices in candidates.values()], labels))
    return found


def check_known(registry: Registry, kind: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raise RegistryError, which lists what there is, if a name is not known; ``kind`` says what it is a name of."""
    names = list(dict.fromkeys(known))
    for name in wanted:
        if name not in names:
            raise RegistryError(
                f"{registry.path}: no {kind} is called {name!r}; it holds: {', '.join(names) or 'none'}"
            )


def _most_measured(registry: Registry, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if len(rows) == 1:
        return rows[0]
    counts = [next(registry.rows(_COUNT, (row["metric_id"], row["setting_id"])))["n"] for row in rows]
    return rows[counts.index(max(counts))]


def _series(rows: Sequence[Mapping[str, Any]], labels: Labels) -> Series:
    first = rows[0]
    model = first["model_id"]
    names = ("metric", "direction", "unit", "scale", "metric_id", "setting_id", "evaluator_id", "evaluator_key")
    columns = tuple(
        Column(
            **{name: row[name] for name in (*names, "evaluator", "evaluator_options_json")},
            evaluator_text=labels.evaluators[model, row["evaluator_id"]],
        )
        for row in rows
    )
    return Series(
        labels.models[model],
        model,
        first["model_key"],
        shape_from_json(first["shape_json"]),
        first["pruner"],
        first["pruner_options_json"],
        first["pruner_key"],
        labels.pruners[model, first["pruner_id"]],
        first["dtype"],
        columns,
    )
