"""One architecture in full: sizes of its layers, its measured numbers, and the provenance of each."""

import re
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import QUANTITIES
from prunecast.errors import RegistryError
from prunecast.registry.labels import Labels
from prunecast.registry.queries.selection import architectures_of
from prunecast.registry.records import shape_from_json
from prunecast.registry.store import LEAST_DIGITS, Registry

_KEY = re.compile(rf"[0-9a-f]{{{LEAST_DIGITS},32}}")

_MEASURED = """
    SELECT m.source AS model, m.key AS model_key, m.shape_json, n.name AS metric, x.value, x.standard_error, x.count,
        n.unit, n.direction, s.model_id, s.evaluator_id, s.pruner_id, s.dtype,
        e.run_id AS run, r.name AS run_name, e.seconds, e.measured_utc, o.*
    FROM architectures a
    JOIN evaluations e ON e.architecture_id = a.id
    JOIN settings s ON s.id = e.setting_id
    JOIN models m ON m.id = s.model_id
    JOIN pruners p ON p.id = s.pruner_id
    JOIN evaluators v ON v.id = s.evaluator_id
    JOIN provenances o ON o.id = e.provenance_id
    JOIN metric_values x ON x.evaluation_id = e.id
    JOIN metrics n ON n.id = x.metric_id
    LEFT JOIN runs r ON r.id = e.run_id
    WHERE a.key = ?
    ORDER BY m.id, p.id, s.dtype, e.id, n.id"""

_STARTING = "SELECT layer_ids_json FROM architectures WHERE key BETWEEN ? AND ? LIMIT 2"


def find_architecture(registry: Registry, text: str) -> Architecture:
    """The architecture of a text, or the measured one whose key starts with these digits, at least four.

    Raises:
        RegistryError: the text is neither, or several keys start with these digits.
    """
    if not _KEY.fullmatch(text):
        try:
            return Architecture.parse(text)
        except ValueError as error:
            raise RegistryError(f"{error}; or give the first digits of the key of a measured architecture") from error
    ends = (bytes.fromhex(text.ljust(32, digit)) for digit in "0f")
    found = architectures_of(registry, [row["layer_ids_json"] for row in registry.rows(_STARTING, tuple(ends))])
    if len(found) != 1:
        how_many = "several architectures have" if found else "no architecture has"
        raise RegistryError(f"{registry.path}: {how_many} a key that starts with {text}; write more of it, or its text")
    return found[0]


def show(registry: Registry, architecture: Architecture) -> dict[str, Any]:
    """All that the registry has of an architecture.

    Returns:
        ``architecture``; ``key``; ``models``, one entry for each model it was measured in, with ``model``, its
        quantities, ``kept``, and ``layers`` (sizes of each layer and of the dense one); and ``measurements``, one entry
        for each metric and setting, with value, standard error, count, evaluator, pruner, dtype, run, device, versions,
        seconds and time.

    Raises:
        RegistryError: it has not been measured.
    """
    rows = list(registry.rows(_MEASURED, (bytes.fromhex(architecture.key),)))
    if not rows:
        raise RegistryError(
            f"{registry.path}: {architecture} has not been measured; prunecast registry nearest lists similar ones, "
            "prunecast predict estimates its metrics"
        )
    labels = Labels.of(registry)
    models: dict[str, dict[str, Any]] = {}
    for row in rows:
        shape_json = row.pop("shape_json")
        models.setdefault(row["model_key"], _of_model(architecture, row["model"], shape_json))
    return {
        "architecture": str(architecture),
        "key": architecture.key,
        "models": list(models.values()),
        "measurements": [_measurement(row, labels) for row in rows],
    }


def _of_model(architecture: Architecture, model: str, shape_json: str) -> dict[str, Any]:
    shape = shape_from_json(shape_json)
    quantities: dict[str, int] = {name: int(shape.count([architecture], name)[0]) for name in QUANTITIES}
    layers = [
        {"layer": number, **kept._asdict(), **{f"dense_{name}": size for name, size in dense._asdict().items()}}
        for number, (kept, dense) in enumerate(zip(architecture.layers, shape.dense.layers, strict=True))
    ]
    kept = quantities["parameters"] / int(shape.count([shape.dense])[0])
    return {"model": model, **quantities, "kept": kept, "layers": layers}


def _measurement(row: dict[str, Any], labels: Labels) -> dict[str, Any]:
    row.pop("id")
    model = row.pop("model_id")
    evaluator = labels.evaluators[model, row.pop("evaluator_id")]
    pruner = labels.pruners[model, row.pop("pruner_id")]
    first = ("model", "model_key", "metric", "value", "standard_error", "count", "unit", "direction")
    return {name: row.pop(name) for name in first} | {"evaluator": evaluator, "pruner": pruner, **row}
