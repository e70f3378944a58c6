"""What a registry holds: its models, and its metrics."""

from collections.abc import Mapping
from typing import Any

from prunecast.registry.labels import Labels
from prunecast.registry.queries.series import check_known
from prunecast.registry.records import shape_from_json
from prunecast.registry.store import Registry

_MODELS = """
    SELECT m.id, m.source, m.key, m.family, m.shape_json, m.parameters,
        (SELECT count(DISTINCT e.architecture_id) FROM settings s JOIN evaluations e ON e.setting_id = s.id
            WHERE s.model_id = m.id) AS architectures,
        (SELECT count(DISTINCT n.name) FROM settings s JOIN metric_values x ON x.setting_id = s.id
            JOIN metrics n ON n.id = x.metric_id WHERE s.model_id = m.id) AS metrics,
        (SELECT count(DISTINCT u.run_id) FROM settings s JOIN evaluations e ON e.setting_id = s.id
            JOIN run_evaluations u ON u.evaluation_id = e.id WHERE s.model_id = m.id) AS runs
    FROM models m ORDER BY m.id"""

_METRICS = """
    SELECT n.name AS metric, n.unit, n.direction, m.id AS model_id, m.source, m.key AS model_key,
        count(DISTINCT s.evaluator_id) AS evaluators, count(DISTINCT s.pruner_id) AS pruners,
        count(DISTINCT e.architecture_id) AS architectures
    FROM metric_values x JOIN metrics n ON n.id = x.metric_id
    JOIN evaluations e ON e.id = x.evaluation_id
    JOIN settings s ON s.id = x.setting_id JOIN models m ON m.id = s.model_id
    GROUP BY m.id, n.name ORDER BY m.id, architectures DESC, n.name"""


def models(registry: Registry) -> list[dict[str, Any]]:
    """The models of a registry, a row each, in the order of recording.

    Columns: ``model`` (label, which begins with its source), ``key`` (fingerprint), ``family``, ``layers``,
    ``parameters``, and the numbers of ``architectures`` measured, of their ``metrics``, and of ``runs`` that used them.
    """
    labels = Labels.of(registry).models
    return [_model(row, labels) for row in registry.rows(_MODELS)]


def metrics(registry: Registry, model: str | None = None) -> list[dict[str, Any]]:
    """The metrics of a registry, a row for each and each model, those with most architectures of a model first.

    Columns: ``metric``, ``model`` (label), ``model_key`` (fingerprint), ``unit``, ``better`` (``smaller`` or
    ``larger``), and the numbers of ``architectures`` measured, and of ``evaluators`` and ``pruners`` that they were
    measured by and pruned by.

    Args:
        registry: the registry.
        model: only this model: its source, or the first digits of its fingerprint.

    Raises:
        RegistryError: no such model.
    """
    labels = Labels.of(registry).models
    rows = list(registry.rows(_METRICS))
    if model is not None:
        rows = [row for row in rows if row["source"] == model or row["model_key"].startswith(model)]
        if not rows:
            check_known(registry, "model", [model], list(labels.values()))
    return [_metric(row, labels) for row in rows]


def _model(row: Mapping[str, Any], labels: Mapping[int, str]) -> dict[str, Any]:
    counted = {name: row[name] for name in ("parameters", "architectures", "metrics", "runs")}
    layers = len(shape_from_json(row["shape_json"]).layers)
    return {"model": labels[row["id"]], "key": row["key"], "family": row["family"], "layers": layers, **counted}


def _metric(row: Mapping[str, Any], labels: Mapping[int, str]) -> dict[str, Any]:
    better = "smaller" if row["direction"] == "minimize" else "larger"
    model = {"model": labels[row["model_id"]], "model_key": row["model_key"]}
    named = {"metric": row["metric"], **model, "unit": row["unit"], "better": better}
    return {**named, **{name: row[name] for name in ("architectures", "evaluators", "pruners")}}
