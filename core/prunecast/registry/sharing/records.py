"""Records: the content of a registry in a form that another registry can take in, independent of the file format.

A record is a flat dict with a ``type``:

- ``run``: the columns of the table ``runs`` except the id; one that runs is ``interrupted``, as no process continues it
  outside of its registry.
- ``evaluation``: model, pruner, evaluator, dtype, architecture, measured metrics and their provenance.
- ``steps``: model, pruner, evaluator, dtype, architecture, and its local sensitivities.

Nested content is JSON in fields called ``*_json``. Records contain no ids of their registry, and every key except a
model's fingerprint and a run's key is computed again from content when they are taken in. Before schema version 7,
records had no ``*_code_hash``, and those of type ``steps`` no ``version``; before version 8, runs had no identity.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from sqlite3 import Connection, IntegrityError, InterfaceError, ProgrammingError
from typing import Any, NamedTuple

from prunecast.architecture.architecture import Architecture
from prunecast.errors import PrunecastError, RegistryError
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry.queries.selection import architectures_of
from prunecast.registry.recording import (
    EvaluationRow,
    Link,
    Plain,
    Rows,
    StepsRow,
    ensure,
    ensure_architectures,
    ensure_metrics,
    ensure_setting,
    evaluations_of,
    next_ids,
    replace_evaluation,
    select_in,
    write_evaluations,
    write_links,
    write_steps,
)
from prunecast.registry.records import Evaluation, ModelRecord, PluginRecord, Setting, shape_from_json
from prunecast.registry.store import Registry
from prunecast.text import counted

BATCH = 1000
"""Number of records taken in by one transaction."""

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
    "identity_json",
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

_OUTCOME = ("status", "started_utc", "finished_utc", "result_json", "message", "identity_json")

_WRITE_RUN = f"""
    INSERT INTO runs ({", ".join(RUN_COLUMNS)}) VALUES ({", ".join("?" * len(RUN_COLUMNS))})
    ON CONFLICT (key) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _OUTCOME)}
    WHERE excluded.status = 'finished' AND runs.status <> 'finished'"""

Record = dict[str, Any]

_WRONG_IN_PYTHON = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_WRONG_IN_SQLITE = (IntegrityError, InterfaceError, ProgrammingError)


@dataclass(frozen=True)
class Conflict:
    """A number that differs between two registries by more than the larger of its two standard errors.

    Attributes:
        model, metric, architecture: source of the model, name of the metric and text of the architecture.
        ours, theirs: the number in the registry that takes records in, and in the records.
        standard_error: the larger of the two standard errors; 0 if neither is known.
    """

    model: str
    metric: str
    architecture: str
    ours: float
    theirs: float
    standard_error: float


@dataclass
class Absorbed:
    """Counts of records taken in.

    Attributes:
        runs: number of new runs, and of known ones that had finished in the records but not in this registry.
        evaluations: number of new evaluations.
        known: number of evaluations that this registry already had.
        replaced: number of evaluations whose numbers were replaced by those of the records.
        steps: number of architectures with local sensitivities that are new or of a newer version.
        conflicts: numbers that differ from those of this registry.
    """

    runs: int = 0
    evaluations: int = 0
    known: int = 0
    replaced: int = 0
    steps: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


def records_of(registry: Registry) -> Iterator[Record]:
    """Records of all runs, evaluations and steps, in this order."""
    yield from run_records(registry)
    yield from evaluation_records(registry)
    yield from steps_records(registry)


def run_records(registry: Registry) -> Iterator[Record]:
    """Records of all runs, in the order they were recorded."""
    for row in registry.rows(f"SELECT {', '.join(RUN_COLUMNS)} FROM runs ORDER BY id"):
        yield {"type": "run", **row, "status": "interrupted" if row["status"] == "running" else row["status"]}


def evaluation_records(registry: Registry) -> Iterator[Record]:
    """Records of all evaluations, in the order they were recorded."""
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
    """Records of all local sensitivities, ordered by setting and architecture."""
    settings, rows = _settings(registry), list(registry.rows(_STEPS))
    architectures = architectures_of(registry, [row.pop("layer_ids_json") for row in rows])
    for row, architecture in zip(rows, architectures, strict=True):
        yield {"type": "steps", **settings[row.pop("setting_id")], "architecture": str(architecture), **row}


def _settings(registry: Registry) -> dict[int, Record]:
    """The fields of a record that describe its setting, by setting id."""
    return {row.pop("id"): row for row in registry.rows(_SETTINGS)}


def absorb(registry: Registry, records: Iterable[Record], theirs: bool = False) -> Absorbed:
    """Take records into a registry. Existing rows stay, so taking the same records in again changes nothing.

    Two exceptions: a run that has finished in the records but not in the registry gets its outcome from the records,
    and steps of a newer version replace those of an older one.

    Args:
        registry: the registry, open for writing.
        records: runs before the evaluations they used, as :func:`records_of` orders them.
        theirs: True to replace the registry's numbers by those of the records in a conflict.

    Returns:
        Counts of the records, and the conflicts.

    Raises:
        RegistryError: a record is damaged or has a number that is not usable. Records in earlier batches stay.
    """
    result, stream = Absorbed(), iter(records)
    while batch := list(islice(stream, BATCH)):
        by_type: dict[str, list[Record]] = {name: [] for name in TYPES}
        for record in batch:
            if record.get("type") not in TYPES:
                raise RegistryError(f"a record is of type {record.get('type')!r}, not one of {', '.join(TYPES)}")
            by_type[record["type"]].append(record)
        incoming = by_type["evaluation"]
        evaluations = [evaluation_of(record) for record in incoming]
        with _checked("a record"), registry.transaction() as connection:
            result.runs += sum(_absorb_run(connection, record) for record in by_type["run"])
            result.steps += sum(_absorb_steps(connection, record) for record in by_type["steps"])
            by_setting = groupby(zip(incoming, evaluations, strict=True), key=lambda pair: pair[1].setting.key)
            for _, group in by_setting:
                _absorb_group(connection, list(group), theirs, result)
    return result


@contextmanager
def _checked(what: str) -> Iterator[None]:
    """Raise whatever is wrong with a record, or refused by the tables, as RegistryError: anyone may have written it."""
    try:
        yield
    except PrunecastError:
        raise
    except (*_WRONG_IN_PYTHON, *_WRONG_IN_SQLITE) as error:
        raise RegistryError(f"{what} is damaged: {type(error).__name__} {error}") from error


def _absorb_run(connection: Connection, record: Record) -> int:
    record = {"identity_json": "{}", **record}
    if missing := [name for name in RUN_COLUMNS if name not in record]:
        raise RegistryError(f"a record of a run has no {missing[0]!r}")
    with _checked("a record of a run"):
        return connection.execute(_WRITE_RUN, [record[name] for name in RUN_COLUMNS]).rowcount


def _absorb_steps(connection: Connection, record: Record) -> int:
    with _checked("a record of steps"):
        setting, architecture = _setting(record), _architecture(record)
        if not all(len(row) == 6 and all(map(math.isfinite, row)) for row in json.loads(record["changes_json"])):
            raise ValueError("in changes_json")
        found = record["changes_json"], float(record["seconds"]), record["measured_utc"], int(record.get("version", 1))
        run_key = record["run_key"]
    (architecture_id,) = ensure_architectures(connection, [architecture])
    setting_id = ensure_setting(connection, setting)
    row = StepsRow(architecture_id, setting_id, _run_ids(connection, [run_key]).get(run_key), *found)
    return write_steps(connection, row, newer_only=True)


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
        raise RegistryError(
            f"a record has an architecture of {counted(len(architecture.layers), 'layer')} of {record['model']}, "
            f"which has {len(shape.dense.layers)}"
        )
    return architecture


def evaluation_of(record: Record) -> Evaluation:
    """Evaluation of a record, with its setting. Raises RegistryError if the record is damaged."""
    with _checked("a record of an evaluation"):
        setting, architecture = _setting(record), _architecture(record)
        measurements = [
            Measurement(Metric(*(each[name] for name in _METRIC)), each["value"], each["standard_error"], each["count"])
            for each in record["metrics"]
        ]
        return Evaluation(setting, architecture, measurements, record["seconds"], record["device"])


def _absorb_group(
    connection: Connection, group: Sequence[tuple[Record, Evaluation]], theirs: bool, result: Absorbed
) -> None:
    """Take in records of evaluations under one setting."""
    evaluations = [evaluation for _, evaluation in group]
    rows = Rows(evaluations)
    setting = evaluations[0].setting
    setting_id = ensure_setting(connection, setting)
    architectures = [evaluation.architecture for evaluation in evaluations]
    ids = ensure_architectures(connection, architectures)
    here = evaluations_of(connection, setting_id, ids)
    metrics = ensure_metrics(connection, dict.fromkeys(metric for numbers in rows.numbers for metric in numbers))
    parameters = setting.model.shape.count(architectures).tolist()
    run_ids = _run_ids(connection, [key for record, _ in group for key in _run_keys(record)])
    next_id = next_ids(connection, "evaluations")
    new: list[tuple[EvaluationRow, Mapping[int, Plain]]] = []
    known: list[_Incoming] = []
    links: list[Link] = []
    for (record, evaluation), architecture_id, numbers, seconds, size in zip(
        group, ids, rows.numbers, rows.seconds, parameters, strict=True
    ):
        by_id = {metrics[metric]: plain for metric, plain in numbers.items()}
        incoming = _Incoming(record, evaluation, architecture_id, by_id, seconds, size)
        if architecture_id in here:
            known.append(incoming)
        else:
            here[architecture_id] = number = next(next_id)
            new.append((_row(connection, incoming, number, setting_id, run_ids), by_id))
        links += [
            Link(run_ids[key], here[architecture_id], stage, cached)
            for key, stage, cached in json.loads(record["uses_json"])
            if key in run_ids
        ]
    # Before the known ones: of two records of one new architecture, the second is compared with the first.
    write_evaluations(connection, new)
    names = {metric_id: metric.name for metric, metric_id in metrics.items()}
    for incoming in known:
        number = here[incoming.architecture_id]
        found = _conflicts(connection, number, incoming, names)
        result.conflicts += found
        if found and theirs:
            replace_evaluation(connection, _row(connection, incoming, number, setting_id, run_ids), incoming.numbers)
            result.replaced += 1
    write_links(connection, links)
    result.evaluations += len(new)
    result.known += len(known)


class _Incoming(NamedTuple):
    """A record of an evaluation with its architecture's row, its checked numbers by metric id, and its parameters."""

    record: Record
    evaluation: Evaluation
    architecture_id: int
    numbers: Mapping[int, Plain]
    seconds: float
    parameters: int


def _row(
    connection: Connection, incoming: _Incoming, evaluation_id: int, setting_id: int, run_ids: Mapping[str, int]
) -> EvaluationRow:
    """Row of the table ``evaluations`` for a record, with the run and the provenance that the record names."""
    record = incoming.record
    provenance = {name: record[name] for name in PROVENANCE_COLUMNS}
    return EvaluationRow(
        id=evaluation_id,
        architecture_id=incoming.architecture_id,
        setting_id=setting_id,
        run_id=run_ids.get(record["run_key"]),
        provenance_id=ensure(connection, "provenances", provenance, {}),
        parameters=incoming.parameters,
        seconds=incoming.seconds,
        measured_utc=record["measured_utc"],
    )


def _run_keys(record: Record) -> list[str]:
    """Keys of the run that measured an evaluation and of the runs that used it."""
    return [record["run_key"], *(key for key, _, _ in json.loads(record["uses_json"]))]


def _run_ids(connection: Connection, keys: Iterable[str | None]) -> dict[str, int]:
    """Ids of runs by their keys; those that the registry does not have are left out."""
    return dict(select_in(connection, "SELECT key, id FROM runs WHERE key IN ({marks})", list(dict.fromkeys(keys))))


def _conflicts(
    connection: Connection, evaluation_id: int, incoming: _Incoming, names: Mapping[int, str]
) -> list[Conflict]:
    """Numbers of a record that differ from those of the stored evaluation; ``names`` are of metrics, by id."""
    statement = "SELECT metric_id, value, standard_error FROM metric_values WHERE evaluation_id = ?"
    ours = {metric_id: (value, error) for metric_id, value, error in connection.execute(statement, (evaluation_id,))}
    model, architecture = incoming.evaluation.setting.model.source, str(incoming.evaluation.architecture)
    found = []
    for metric_id, (value, error, _) in incoming.numbers.items():
        if metric_id not in ours:
            continue
        our_value, our_error = ours[metric_id]
        allowed = max(error or 0.0, our_error or 0.0)
        if abs(value - our_value) > allowed:
            found.append(Conflict(model, names[metric_id], architecture, our_value, value, allowed))
    return found
