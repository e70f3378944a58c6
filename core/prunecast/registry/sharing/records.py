"""Exchange: a registry as records that leave the file and come in again, whatever carries them.

A record is a flat dict with a ``type``. ``run``: the columns of the table ``runs`` but for the id. ``evaluation``:
model, pruner, evaluator, dtype, architecture, measured metrics and where they came from. ``steps``: model, pruner,
evaluator, dtype, architecture, and what steps around it change. What is nested is JSON in ``*_json``. No id of the
registry it came from is in a record, and every key is computed anew from content. Before schema version 7, records had
no ``*_code_hash`` and those of steps no ``version``.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from sqlite3 import Connection
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.errors import RegistryError
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry.queries.selection import architectures_of
from prunecast.registry.recording import (
    Rows,
    ensure,
    ensure_architectures,
    ensure_metrics,
    ensure_setting,
    evaluations_of,
    next_ids,
)
from prunecast.registry.records import Evaluation, ModelRecord, PluginRecord, Setting, shape_from_json
from prunecast.registry.store import Registry

BATCH = 1000
"""Records that come in by one transaction."""

TYPES = ("run", "evaluation", "steps")

RUN_COLUMNS = (
    "key",
    "name",
    "status",
    "started_utc",
    "finished_utc",
    "spec_json",
    "spec_text",
    "result_json",
    "message",
)

PROVENANCE_COLUMNS = (
    *("pruner_distribution", "evaluator_distribution", "prunecast", "python", "torch", "transformers", "device"),
)

_METRIC = ("name", "direction", "unit", "scale")
_MEASURED = (*_METRIC, "value", "standard_error", "count")

_EVALUATIONS = """
    SELECT e.id, e.setting_id, e.seconds, e.measured_utc, a.layer_ids_json, e.parameters,
        n.name, n.direction, n.unit, n.scale, x.value, x.standard_error, x.count,
        o.pruner_distribution, o.evaluator_distribution, o.prunecast, o.python, o.torch, o.transformers, o.device,
        r.key AS run_key,
        (
            SELECT json_group_array(json_array(u.key, l.stage, l.cached))
            FROM run_evaluations l JOIN runs u ON u.id = l.run_id WHERE l.evaluation_id = e.id
        ) AS uses_json
    FROM evaluations e
    JOIN architectures a ON a.id = e.architecture_id
    JOIN provenances o ON o.id = e.provenance_id
    JOIN metric_values x ON x.evaluation_id = e.id
    JOIN metrics n ON n.id = x.metric_id
    LEFT JOIN runs r ON r.id = e.run_id
    ORDER BY e.id, n.id"""

_STEPS = """
    SELECT c.setting_id, a.layer_ids_json, c.version, c.changes_json, c.seconds, c.measured_utc, r.key AS run_key
    FROM steps c
    JOIN architectures a ON a.id = c.architecture_id
    LEFT JOIN runs r ON r.id = c.run_id
    ORDER BY c.setting_id, c.architecture_id"""

_SETTINGS = """
    SELECT s.id, m.key AS model_key, m.source AS model, m.shape_json, s.dtype,
        p.name AS pruner, p.version AS pruner_version, p.options_json AS pruner_options_json,
        p.data_hash AS pruner_data_hash, p.distribution AS pruner_owner, p.code_hash AS pruner_code_hash,
        v.name AS evaluator, v.version AS evaluator_version, v.options_json AS evaluator_options_json,
        v.data_hash AS evaluator_data_hash, v.distribution AS evaluator_owner, v.code_hash AS evaluator_code_hash
    FROM settings s
    JOIN models m ON m.id = s.model_id
    JOIN pruners p ON p.id = s.pruner_id
    JOIN evaluators v ON v.id = s.evaluator_id"""

_OUTCOME = ("status", "started_utc", "finished_utc", "result_json", "message")

_NOTE_RUN = f"""
    INSERT INTO runs ({", ".join(RUN_COLUMNS)}) VALUES ({", ".join("?" * len(RUN_COLUMNS))})
    ON CONFLICT (key) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _OUTCOME)}
    WHERE excluded.status = 'finished' AND runs.status <> 'finished'"""

_NOTE_STEPS = """
    INSERT INTO steps SELECT ?, ?, (SELECT id FROM runs WHERE key = ?), ?, ?, ?, ?
    WHERE true ON CONFLICT DO UPDATE SET run_id = excluded.run_id, changes_json = excluded.changes_json,
        seconds = excluded.seconds, measured_utc = excluded.measured_utc, version = excluded.version
    WHERE excluded.version > steps.version"""

_NOTE_EVALUATION = """
    INSERT INTO evaluations VALUES (
        :id, :architecture_id, :setting_id, :run_id, :provenance_id, :parameters, :seconds, :measured_utc
    )"""

_NOTE_ORIGIN = """
    UPDATE evaluations
    SET run_id = :run_id, provenance_id = :provenance_id, seconds = :seconds, measured_utc = :measured_utc
    WHERE id = :id"""

_LINK = """
    INSERT INTO run_evaluations
    SELECT r.id, (SELECT coalesce(max(position), 0) + 1 FROM run_evaluations WHERE run_id = r.id), ?, ?, ?
    FROM runs r WHERE r.key = ?
    ON CONFLICT DO NOTHING"""

Record = dict[str, Any]


@dataclass(frozen=True)
class Conflict:
    """A number on which two registries differ by more than the larger of their standard errors."""

    model: str
    metric: str
    architecture: str
    ours: float
    theirs: float
    standard_error: float


@dataclass
class Absorbed:
    """What came of records that came in.

    Attributes:
        runs, evaluations, steps: how many were new; of runs, those that have finished there and not here too; of steps,
            the architectures around which they are known.
        known: evaluations that were here already.
        conflicts: numbers that differ from the ones here.
        replaced: evaluations whose numbers were taken over.
    """

    runs: int = 0
    evaluations: int = 0
    known: int = 0
    replaced: int = 0
    steps: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


def records_of(registry: Registry) -> Iterator[Record]:
    """Everything the registry holds: runs, evaluations and steps, in this order."""
    yield from run_records(registry)
    yield from evaluation_records(registry)
    yield from steps_records(registry)


def run_records(registry: Registry) -> Iterator[Record]:
    """All runs, in the order they came in."""
    for row in registry.rows(f"SELECT {', '.join(RUN_COLUMNS)} FROM runs ORDER BY id"):
        yield {"type": "run", **row}


def evaluation_records(registry: Registry) -> Iterator[Record]:
    """All evaluations, in the order they came in."""
    settings = _settings(registry)
    groups = (list(group) for _, group in groupby(registry.rows(_EVALUATIONS), lambda row: row["id"]))
    while some := list(islice(groups, BATCH)):
        architectures = architectures_of(registry, [group[0]["layer_ids_json"] for group in some])
        for group, architecture in zip(some, architectures, strict=True):
            first = group[0]
            yield {
                "type": "evaluation",
                **settings[first["setting_id"]],
                "architecture": str(architecture),
                "parameters": first["parameters"],
                "metrics": [{name: row[name] for name in _MEASURED} for row in group],
                **{
                    name: first[name]
                    for name in ("seconds", "measured_utc", *PROVENANCE_COLUMNS, "run_key", "uses_json")
                },
            }


def steps_records(registry: Registry) -> Iterator[Record]:
    """What is known of steps, by setting and architecture."""
    settings, around = _settings(registry), list(registry.rows(_STEPS))
    centres = architectures_of(registry, [row.pop("layer_ids_json") for row in around])
    for row, architecture in zip(around, centres, strict=True):
        yield {"type": "steps", **settings[row.pop("setting_id")], "architecture": str(architecture), **row}


def _settings(registry: Registry) -> dict[int, Record]:
    """What a record says of its setting, by id."""
    return {row.pop("id"): row for row in registry.rows(_SETTINGS)}


def absorb(registry: Registry, records: Iterable[Record], theirs: bool = False) -> Absorbed:
    """Take records in; what is here already stays, and coming in again changes nothing.

    Of a run that has finished there and not here, the outcome is taken over.

    Args:
        registry: where to, open for writing.
        records: runs before the evaluations they used, as :func:`records_of` has them.
        theirs: whether their numbers replace ours in a conflict.

    Raises:
        RegistryError: a record that is none, or holds a number that is none. Records before it may have come in.
    """
    result, stream = Absorbed(), iter(records)
    while batch := list(islice(stream, BATCH)):
        by_type: dict[str, list[Record]] = {name: [] for name in TYPES}
        for record in batch:
            if record.get("type") not in by_type:
                raise RegistryError(f"a record is of type {record.get('type')!r}, not one of {', '.join(TYPES)}")
            by_type[record["type"]].append(record)
        incoming = by_type["evaluation"]
        evaluations = [evaluation_of(record) for record in incoming]
        with registry.transaction() as connection:
            result.runs += sum(_absorb_run(connection, record) for record in by_type["run"])
            result.steps += sum(_absorb_steps(connection, record) for record in by_type["steps"])
            by_setting = groupby(zip(incoming, evaluations, strict=True), key=lambda pair: pair[1].setting.key)
            for _, group in by_setting:
                _absorb_group(connection, list(group), theirs, result)
    return result


def _absorb_run(connection: Connection, record: Record) -> int:
    try:
        return connection.execute(_NOTE_RUN, [record[name] for name in RUN_COLUMNS]).rowcount
    except KeyError as error:
        raise RegistryError(f"a record of a run has no {error}") from error


def _absorb_steps(connection: Connection, record: Record) -> int:
    try:
        setting, architecture = _setting(record), _architecture(record)
        if not all(len(row) == 6 and all(map(math.isfinite, row)) for row in json.loads(record["changes_json"])):
            raise ValueError("in changes_json")
        found = record["run_key"], record["changes_json"], float(record["seconds"]), record["measured_utc"]
        version = int(record.get("version", 1))
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(f"a record of steps is damaged: {type(error).__name__} {error}") from error
    (architecture_id,) = ensure_architectures(connection, [architecture])
    row = (architecture_id, ensure_setting(connection, setting), *found, version)
    return connection.execute(_NOTE_STEPS, row).rowcount


def _setting(record: Record) -> Setting:
    pruner, evaluator = (
        PluginRecord(
            record[kind],
            record[f"{kind}_version"],
            json.loads(record[f"{kind}_options_json"]),
            record[f"{kind}_data_hash"],
            record[f"{kind}_owner"],
            record.get(f"{kind}_code_hash"),
        )
        for kind in ("pruner", "evaluator")
    )
    model = ModelRecord(record["model_key"], record["model"], shape_from_json(record["shape_json"]))
    return Setting(model, pruner, evaluator, record["dtype"])


def _architecture(record: Record) -> Architecture:
    architecture, shape = Architecture.parse(record["architecture"]), shape_from_json(record["shape_json"])
    if len(architecture.layers) != len(shape.dense.layers):
        raise RegistryError(f"a record has an architecture of {len(architecture.layers)} layers of {record['model']}")
    return architecture


def evaluation_of(record: Record) -> Evaluation:
    """The evaluation of a record, with its setting. Raises RegistryError if the record is damaged."""
    try:
        setting, architecture = _setting(record), _architecture(record)
        measurements = [
            Measurement(Metric(*(each[name] for name in _METRIC)), each["value"], each["standard_error"], each["count"])
            for each in record["metrics"]
        ]
        return Evaluation(setting, architecture, measurements, record["seconds"], record["device"])
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(f"a record of an evaluation is damaged: {type(error).__name__} {error}") from error


def _absorb_group(
    connection: Connection, group: Sequence[tuple[Record, Evaluation]], theirs: bool, result: Absorbed
) -> None:
    """Evaluations under one setting."""
    evaluations = [evaluation for _, evaluation in group]
    rows = Rows(evaluations)
    setting = evaluations[0].setting
    setting_id = ensure_setting(connection, setting)
    architectures = [evaluation.architecture for evaluation in evaluations]
    ids = ensure_architectures(connection, architectures)
    here = evaluations_of(connection, setting_id, ids)
    metrics = ensure_metrics(connection, dict.fromkeys(metric for numbers in rows.numbers for metric in numbers))
    parameters = setting.model.shape.count(architectures).tolist()
    new = next_ids(connection, "evaluations")
    for (record, evaluation), architecture_id, numbers, seconds, size in zip(
        group, ids, rows.numbers, rows.seconds, parameters, strict=True
    ):
        if architecture_id in here:
            result.known += 1
            found = _conflicts(connection, here[architecture_id], evaluation, numbers, metrics)
            result.conflicts += found
            if found and theirs:
                _replace(connection, here[architecture_id], numbers, metrics, _origin(connection, record, seconds))
                result.replaced += 1
        else:
            here[architecture_id] = number = next(new)
            row = {"id": number, "architecture_id": architecture_id, "setting_id": setting_id, "parameters": size}
            row |= _origin(connection, record, seconds)
            connection.execute(_NOTE_EVALUATION, row)
            connection.executemany(
                "INSERT INTO metric_values VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(number, metrics[metric], *plain, setting_id, size) for metric, plain in numbers.items()],
            )
            result.evaluations += 1
        uses = [(here[architecture_id], stage, cached, key) for key, stage, cached in json.loads(record["uses_json"])]
        connection.executemany(_LINK, uses)


def _origin(connection: Connection, record: Record, seconds: float) -> dict[str, object]:
    """Where the numbers of a record come from, as the table ``evaluations`` says it."""
    run = connection.execute("SELECT id FROM runs WHERE key = ?", (record["run_key"],)).fetchone()
    return {
        "run_id": run and run[0],
        "provenance_id": ensure(connection, "provenances", {name: record[name] for name in PROVENANCE_COLUMNS}, {}),
        "seconds": seconds,
        "measured_utc": record["measured_utc"],
    }


def _conflicts(
    connection: Connection,
    evaluation_id: int,
    evaluation: Evaluation,
    numbers: Mapping[Metric, tuple[float, float | None, int]],
    metrics: Mapping[Metric, int],
) -> list[Conflict]:
    statement = "SELECT metric_id, value, standard_error FROM metric_values WHERE evaluation_id = ?"
    ours = {metric_id: (value, error) for metric_id, value, error in connection.execute(statement, (evaluation_id,))}
    found = []
    for metric, (value, error, _) in numbers.items():
        if metrics[metric] not in ours:
            continue
        our_value, our_error = ours[metrics[metric]]
        allowed = max(error or 0.0, our_error or 0.0)
        if abs(value - our_value) > allowed:
            text = str(evaluation.architecture)
            found.append(Conflict(evaluation.setting.model.source, metric.name, text, our_value, value, allowed))
    return found


def _replace(
    connection: Connection,
    evaluation_id: int,
    numbers: Mapping[Metric, tuple[float, float | None, int]],
    metrics: Mapping[Metric, int],
    origin: Mapping[str, object],
) -> None:
    connection.execute(_NOTE_ORIGIN, {"id": evaluation_id, **origin})
    statement = (
        "UPDATE metric_values SET value = ?, standard_error = ?, count = ? WHERE evaluation_id = ? AND metric_id = ?"
    )
    connection.executemany(statement, [(*plain, evaluation_id, metrics[metric]) for metric, plain in numbers.items()])
