"""Verification of a registry: everything that can be derived from other content is computed again and compared."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ModelShape
from prunecast.errors import RegistryError
from prunecast.keys import canonical_json
from prunecast.registry.records import PluginRecord, shape_from_json, shape_to_json
from prunecast.registry.schema.views import MOST_METRIC_COLUMNS
from prunecast.registry.store import Registry

CHUNK = 10_000
"""Number of evaluations whose parameters are counted at once."""

_EVALUATED = """
    SELECT e.id, s.model_id, a.layer_ids_json, e.parameters
    FROM evaluations e JOIN settings s ON s.id = e.setting_id JOIN architectures a ON a.id = e.architecture_id
    ORDER BY s.model_id"""

_REPEATED_WRONGLY = """
    SELECT x.evaluation_id FROM metric_values x JOIN evaluations e ON e.id = x.evaluation_id
    WHERE x.setting_id <> e.setting_id OR x.parameters <> e.parameters"""

_WITHOUT_VALUE = "SELECT id FROM evaluations WHERE id NOT IN (SELECT evaluation_id FROM metric_values)"


Layers = dict[int, tuple[int, int, int]]
"""KV groups, query heads per group and MLP width by layer id."""


def problems(registry: Registry) -> Iterator[str]:
    """Problems of the registry, one line each; none if it is sound.

    SQLite checks the file and its constraints, among them that numbers are finite, and then foreign keys. After that
    every content key, every count of parameters and every repeated column is computed again. If the file itself is
    damaged, nothing else is checked. Fingerprints of models are not checked, as that would take the weights.

    Raises:
        RegistryError: the file is so damaged that it cannot be read to the end.
    """
    damaged = False
    for row in registry.rows("PRAGMA integrity_check"):
        if row["integrity_check"] != "ok":
            damaged = True
            yield f"file: {row['integrity_check']}"
    if damaged:
        return
    for row in registry.rows("PRAGMA foreign_key_check"):
        yield f"{row['table']}: row {row['rowid']} refers to a row of {row['parent']} that is not there"
    yield from _models(registry)
    for table in ("pruners", "evaluators"):
        yield from _plugins(registry, table)
    layers = {
        row["id"]: (row["kv_groups"], row["heads_per_group"], row["mlp_width"]) for row in _all(registry, "layers")
    }
    yield from _architectures(registry, layers)
    yield from _parameters(registry, layers)
    for row in registry.rows(_REPEATED_WRONGLY):
        yield f"metric_values: evaluation {row['evaluation_id']} has another setting or count of parameters"
    for row in registry.rows(_WITHOUT_VALUE):
        yield f"evaluations: {row['id']} has no value"
    yield from _columns(registry)


def _all(registry: Registry, table: str) -> Iterator[dict[str, Any]]:
    return registry.rows(f"SELECT * FROM {table} ORDER BY id")


def _models(registry: Registry) -> Iterator[str]:
    for row in _all(registry, "models"):
        shape = _shape(row["shape_json"])
        if shape is None or shape_to_json(shape) != row["shape_json"]:
            yield f"models: shape_json of {row['id']} is not the sizes of a model"
        elif (shape.family, int(shape.count([shape.dense])[0])) != (row["family"], row["parameters"]):
            yield f"models: family or parameters of {row['id']} are not those of its shape"


def _shape(text: str) -> ModelShape | None:
    try:
        return shape_from_json(text)
    except RegistryError:
        return None


def _plugins(registry: Registry, table: str) -> Iterator[str]:
    for row in _all(registry, table):
        options = json.loads(row["options_json"])
        identity = (row["name"], row["version"], options, row["data_hash"])
        record = PluginRecord(*identity, row["distribution"], row["code_hash"])
        if record.key != row["key"] or canonical_json(options) != row["options_json"]:
            yield f"{table}: key of {row['id']} ({row['name']}) is not that of its content"


def _architectures(registry: Registry, layers: Layers) -> Iterator[str]:
    for row in _all(registry, "architectures"):
        architecture = _architecture(row["layer_ids_json"], layers)
        if architecture is None:
            yield f"architectures: {row['id']} is made of layers that are not there"
        elif (bytes.fromhex(architecture.key), len(architecture.layers)) != (row["key"], row["depth"]):
            yield f"architectures: key or depth of {row['id']} is not that of its layers"


def _architecture(layer_ids_json: str, layers: Layers) -> Architecture | None:
    try:
        return Architecture([layers[layer_id] for layer_id in json.loads(layer_ids_json)])
    except (ValueError, TypeError, KeyError):
        return None


def _parameters(registry: Registry, layers: Layers) -> Iterator[str]:
    shapes = {row["id"]: _shape(row["shape_json"]) for row in _all(registry, "models")}
    rows = registry.rows(_EVALUATED)
    while chunk := list(islice(rows, CHUNK)):
        for model_id in dict.fromkeys(row["model_id"] for row in chunk):
            shape = shapes.get(model_id)
            here = [(row, _architecture(row["layer_ids_json"], layers)) for row in chunk if row["model_id"] == model_id]
            whole = [(row, architecture) for row, architecture in here if architecture is not None]
            if shape is not None:
                yield from _miscounted(shape, whole)


def _miscounted(shape: ModelShape, evaluated: list[tuple[dict[str, Any], Architecture]]) -> Iterator[str]:
    depth = len(shape.dense.layers)
    fitting = [(row, architecture) for row, architecture in evaluated if len(architecture.layers) == depth]
    for row, architecture in evaluated:
        if len(architecture.layers) != depth:
            yield f"evaluations: the architecture of {row['id']} has another depth than its model"
    counts = shape.count([architecture for _, architecture in fitting]).tolist() if fitting else []
    for (row, _), count in zip(fitting, counts, strict=True):
        if count != row["parameters"]:
            yield f"evaluations: parameters of {row['id']} are not those of its architecture"


def _columns(registry: Registry) -> Iterator[str]:
    names = [row["name"] for row in registry.rows("SELECT name FROM metrics GROUP BY name ORDER BY min(id)")]
    (view,) = registry.rows("SELECT sql FROM sqlite_master WHERE name = 'measurements'")
    for name in names[:MOST_METRIC_COLUMNS]:
        quoted = name.replace('"', '""')
        if f'AS "{quoted}"' not in view["sql"]:
            yield f"measurements: has no column for {name}; open the registry once for writing"
