"""The writer of evaluations, steps and links between runs and evaluations.

Recording a run (:mod:`prunecast.registry.store`) and taking in records of another registry
(:mod:`prunecast.registry.sharing.records`) both write through these functions, in batches. Every function that takes a
connection runs inside one ``BEGIN IMMEDIATE`` transaction of the caller, so new ids continue from the largest one.
"""

import math
import operator
import platform
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from itertools import chain, count, groupby
from typing import Any, NamedTuple

from prunecast.architecture.architecture import Architecture
from prunecast.errors import RegistryError
from prunecast.keys import canonical_json
from prunecast.models.pruned.lineage import lineage_to_json
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry.records import Evaluation, PluginRecord, Setting, shape_to_json, utc_text
from prunecast.registry.schema.views import create_measurements

CHUNK = 500
"""Largest number of values in the ``IN`` list of one statement."""

LARGEST_INTEGER = 2**63 - 1

Plain = tuple[float, float | None, int]
"""Value, standard error and count of a measurement as Python numbers, which SQLite stores unchanged."""


class EvaluationRow(NamedTuple):
    """A row of the table ``evaluations``; the fields are its columns."""

    id: int
    architecture_id: int
    setting_id: int
    run_id: int | None
    provenance_id: int
    parameters: int
    seconds: float
    measured_utc: str


class StepsRow(NamedTuple):
    """A row of the table ``steps``; the fields are its columns."""

    architecture_id: int
    setting_id: int
    run_id: int | None
    changes_json: str
    seconds: float
    measured_utc: str
    version: int


class Link(NamedTuple):
    """The use of an evaluation by a stage of a run; ``cached`` is True if the run found it instead of measuring it."""

    run_id: int
    evaluation_id: int
    stage: str
    cached: bool


_VALUE_COLUMNS = ("evaluation_id", "metric_id", "value", "standard_error", "count", "setting_id", "parameters")

_REPLACE_EVALUATION = """
    UPDATE evaluations
    SET run_id = :run_id, provenance_id = :provenance_id, seconds = :seconds, measured_utc = :measured_utc
    WHERE id = :id"""

_REPLACE_VALUE = (
    "UPDATE metric_values SET value = ?, standard_error = ?, count = ? WHERE evaluation_id = ? AND metric_id = ?"
)

_WRITE_STEPS = f"""
    INSERT INTO steps ({", ".join(StepsRow._fields)}) VALUES ({", ".join(f":{name}" for name in StepsRow._fields)})
    ON CONFLICT DO UPDATE SET run_id = excluded.run_id, changes_json = excluded.changes_json,
        seconds = excluded.seconds, measured_utc = excluded.measured_utc, version = excluded.version
    WHERE NOT :newer_only OR excluded.version > steps.version"""

_LINK = """
    INSERT INTO run_evaluations (run_id, position, evaluation_id, stage, cached)
    VALUES (?1, (SELECT coalesce(max(position), 0) + 1 FROM run_evaluations WHERE run_id = ?1), ?2, ?3, ?4)
    ON CONFLICT DO NOTHING"""


class Rows:
    """Evaluations to be written, with their numbers checked and converted to Python numbers.

    SQLite would store a numpy scalar as a BLOB and a NaN as NULL.

    Raises:
        RegistryError: an evaluation without measurement or with two of one metric; a number that is not finite or no
            number at all; a standard error, count or time below zero; a count that takes more than 64 bits.
    """

    def __init__(self, evaluations: Sequence[Evaluation]) -> None:
        self.evaluations = evaluations
        self.numbers = [_plain_numbers(evaluation) for evaluation in evaluations]
        self.seconds = [_plain_seconds(evaluation) for evaluation in evaluations]


def record(connection: sqlite3.Connection, run_id: int, stage: str, rows: Rows) -> None:
    """Store a batch and link it to the run. Evaluations already stored stay unchanged and are linked as cached."""
    numbered = zip(rows.evaluations, rows.numbers, rows.seconds, strict=True)
    # Grouped by identity, which is cheaper than by content; equal settings in two objects are looked up twice.
    for _, group in groupby(numbered, key=lambda row: id(row[0].setting)):
        evaluations, numbers, seconds = zip(*group, strict=True)
        _record_under_one_setting(connection, run_id, stage, evaluations, numbers, seconds)


def _record_under_one_setting(
    connection: sqlite3.Connection,
    run_id: int,
    stage: str,
    evaluations: Sequence[Evaluation],
    numbers: Sequence[Mapping[Metric, Plain]],
    seconds: Sequence[float],
) -> None:
    setting = evaluations[0].setting
    setting_id = ensure_setting(connection, setting)
    architectures = [evaluation.architecture for evaluation in evaluations]
    architecture_ids = ensure_architectures(connection, architectures)
    known = evaluations_of(connection, setting_id, architecture_ids)
    parameters = setting.model.shape.count(architectures).tolist()
    made_by = {_made_by(each): each for each in evaluations}
    provenances = {by: _provenance_id(connection, setting, each) for by, each in made_by.items()}
    metrics = ensure_metrics(connection, dict.fromkeys(metric for row in numbers for metric in row))
    ids, now = next_ids(connection, "evaluations"), utc_text()
    new, links = [], []
    for architecture_id, evaluation, values, taken, size in zip(
        architecture_ids, evaluations, numbers, seconds, parameters, strict=True
    ):
        cached = architecture_id in known
        if not cached:
            known[architecture_id] = number = next(ids)
            provenance = provenances[_made_by(evaluation)]
            row = EvaluationRow(number, architecture_id, setting_id, run_id, provenance, size, taken, now)
            new.append((row, {metrics[metric]: plain for metric, plain in values.items()}))
        links.append(Link(run_id, known[architecture_id], stage, cached))
    write_evaluations(connection, new)
    write_links(connection, links)
    end_leases(connection, setting_id, architecture_ids)


def _made_by(evaluation: Evaluation) -> tuple[object, ...]:
    """Device and versions that an evaluation was made with."""
    return evaluation.device, *sorted((evaluation.versions or {}).items())


def write_evaluations(
    connection: sqlite3.Connection, evaluations: Sequence[tuple[EvaluationRow, Mapping[int, Plain]]]
) -> None:
    """Insert new evaluations, each with its numbers by metric id."""
    _insert(connection, "evaluations", EvaluationRow._fields, [row for row, _ in evaluations])
    values = [
        (row.id, metric_id, *plain, row.setting_id, row.parameters)
        for row, numbers in evaluations
        for metric_id, plain in numbers.items()
    ]
    # In the order of the index metric_values_by_value, so that neighbours in it are written together.
    values.sort(key=_place_in_index)
    _insert(connection, "metric_values", _VALUE_COLUMNS, values)


def _place_in_index(row: tuple[Any, ...]) -> tuple[int, float]:
    _, metric_id, value, *_ = row
    return metric_id, value


def _insert(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def replace_evaluation(connection: sqlite3.Connection, row: EvaluationRow, numbers: Mapping[int, Plain]) -> None:
    """Overwrite a stored evaluation: run, provenance, seconds, time, and those of its metrics that are in ``numbers``.

    Metrics that the evaluation does not have yet are not added.
    """
    connection.execute(_REPLACE_EVALUATION, row._asdict())
    connection.executemany(_REPLACE_VALUE, [(*plain, row.id, metric_id) for metric_id, plain in numbers.items()])


def write_steps(connection: sqlite3.Connection, row: StepsRow, newer_only: bool = False) -> int:
    """Store the local sensitivities around an architecture under a setting in place of those already stored.

    Args:
        connection: connection inside a transaction.
        row: the sensitivities.
        newer_only: keep those already stored unless their version is lower.

    Returns:
        1 if the row was written, else 0.
    """
    return connection.execute(_WRITE_STEPS, {**row._asdict(), "newer_only": newer_only}).rowcount


def write_links(connection: sqlite3.Connection, links: Iterable[Link]) -> None:
    """Link runs to the evaluations they used, in this order; a link of the same run and stage that exists stays."""
    connection.executemany(_LINK, links)


def evaluations_of(connection: sqlite3.Connection, setting_id: int, architecture_ids: Sequence[int]) -> dict[int, int]:
    """Ids of the stored evaluations under a setting, by architecture id."""
    statement = "SELECT architecture_id, id FROM evaluations WHERE setting_id = ? AND architecture_id IN ({marks})"
    return dict(select_in(connection, statement, architecture_ids, setting_id))


def end_leases(connection: sqlite3.Connection, setting_id: int, architecture_ids: Iterable[int]) -> None:
    """Delete the leases on these architectures, which other processes wait for."""
    if connection.execute("SELECT 1 FROM leases LIMIT 1").fetchone() is None:
        return
    statement = "DELETE FROM leases WHERE architecture_id = ? AND setting_id = ?"
    connection.executemany(statement, [(architecture_id, setting_id) for architecture_id in architecture_ids])


def ensure_setting(connection: sqlite3.Connection, setting: Setting) -> int:
    """Id of the setting, inserted with its model, pruner and evaluator where they are missing."""
    model = setting.model
    sizes = {
        "source": model.source,
        "family": model.shape.family,
        "parameters": int(model.shape.count([model.shape.dense])[0]),
        "shape_json": shape_to_json(model.shape),
        "made_from_json": canonical_json(lineage_to_json(model.lineage)),
    }
    identity = {
        "model_id": ensure(connection, "models", {"key": model.fingerprint}, sizes),
        "pruner_id": _ensure_plugin(connection, "pruners", setting.pruner),
        "evaluator_id": _ensure_plugin(connection, "evaluators", setting.evaluator),
        "dtype": setting.dtype,
    }
    return ensure(connection, "settings", identity, {})


def ensure_architectures(connection: sqlite3.Connection, architectures: Sequence[Architecture]) -> list[int]:
    """Ids of the architectures, in order; missing ones are inserted."""
    keys = [key_bytes(architecture) for architecture in architectures]
    ids: dict[bytes, int] = dict(
        select_in(connection, "SELECT key, id FROM architectures WHERE key IN ({marks})", keys)
    )
    by_key = dict(zip(keys, architectures, strict=True))
    # In the order of the keys, so that neighbours in the index of keys are written together.
    new = {key: by_key[key] for key in sorted(by_key.keys() - ids.keys())}
    if new:
        layers = set(chain.from_iterable(architecture.layers for architecture in new.values()))
        layer_ids = {layer: str(ensure(connection, "layers", layer._asdict(), {})) for layer in sorted(layers)}
        ids |= dict(zip(new, next_ids(connection, "architectures"), strict=False))
        rows = [
            (ids[key], key, len(each.layers), f"[{','.join(map(layer_ids.__getitem__, each.layers))}]")
            for key, each in new.items()
        ]
        _insert(connection, "architectures", ("id", "key", "depth", "layer_ids_json"), rows)
    return [ids[key] for key in keys]


def key_bytes(architecture: Architecture) -> bytes:
    """Content key of an architecture as stored: 16 bytes."""
    return bytes.fromhex(architecture.key)


def select_in(
    connection: sqlite3.Connection, statement: str, values: Sequence[object], *before: object
) -> Iterator[Any]:
    """Rows of a SELECT that ends in ``IN ({marks})``, for any number of values.

    Args:
        connection: connection to read from.
        statement: the SELECT.
        values: values of the ``IN`` list, :data:`CHUNK` to a statement.
        before: parameters in front of the list.
    """
    for start in range(0, len(values), CHUNK):
        some = values[start : start + CHUNK]
        yield from connection.execute(statement.format(marks=",".join("?" * len(some))), (*before, *some))


def _plain_number(number: float, least: float = -math.inf) -> float:
    """The number as a Python float. Raises _Unusable if it is not finite or smaller than ``least``."""
    if type(number) is float and math.isfinite(number) and number >= least:
        return number  # fast path of nearly every call
    if isinstance(number, str | bytes):
        raise _Unusable(f"{number!r}, not a number")
    try:
        plain = float(number)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise _Unusable(f"{number!r}, not a number") from error
    if not math.isfinite(plain) or plain < least:
        raise _Unusable(f"{plain}, not a finite number" + ("" if math.isinf(least) else f" of at least {least:g}"))
    return plain


def _plain_count(number: int) -> int:
    try:
        plain = operator.index(number)
    except (TypeError, RuntimeError) as error:
        raise _Unusable(f"{number!r}, not a whole number") from error
    if not 0 <= plain <= LARGEST_INTEGER:
        raise _Unusable(f"{plain}, not a whole number from 0 to 2^63 - 1")
    return plain


def _plain_seconds(evaluation: Evaluation) -> float:
    try:
        return _plain_number(evaluation.seconds, least=0.0)
    except _Unusable as what:
        raise RegistryError(f"seconds for {evaluation.architecture} is {what}; it was not recorded") from what


def _plain_numbers(evaluation: Evaluation) -> dict[Metric, Plain]:
    architecture, measurements = evaluation.architecture, evaluation.measurements
    if not measurements:
        raise RegistryError(
            f"evaluation of {architecture} has no measurement; an evaluator must return one for each metric"
        )
    names = [measurement.metric.name for measurement in measurements]
    if len(set(names)) < len(names):
        raise RegistryError(f"evaluation of {architecture} has two measurements of one metric: {', '.join(names)}")
    if any("\0" in name for name in names):
        raise RegistryError(
            f"evaluation of {architecture}: {names!r} has a name with a null character; rename the metric"
        )
    plain = {}
    for measurement in measurements:
        try:
            plain[measurement.metric] = _plain_measurement(measurement)
        except _Unusable as what:
            name = measurement.metric.name
            raise RegistryError(f"{name} of {architecture}: has {what}; it was not recorded") from what
    return plain


def _plain_measurement(measurement: Measurement) -> Plain:
    error = measurement.standard_error
    return (
        _plain_number(measurement.value),
        None if error is None else _plain_number(error, least=0.0),
        _plain_count(measurement.count),
    )


class _Unusable(ValueError):
    """A number that cannot be stored; the message gives the number and the rule it breaks."""


def next_ids(connection: sqlite3.Connection, table: str) -> Iterator[int]:
    """Endless ids for new rows of a table: the largest one plus 1, plus 2, and so on."""
    return count(connection.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0])


def ensure(
    connection: sqlite3.Connection, table: str, identity: Mapping[str, object], rest: Mapping[str, object]
) -> int:
    """Id of the row of ``table`` that has ``identity``, inserted with ``rest`` if there is none."""
    where = " AND ".join(f"{name} = ?" for name in identity)
    row = connection.execute(f"SELECT id FROM {table} WHERE {where}", tuple(identity.values())).fetchone()
    if row is None:
        columns = {**identity, **rest}
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) RETURNING id"
        row = connection.execute(insert, tuple(columns.values())).fetchone()
    return int(row[0])


def _ensure_plugin(connection: sqlite3.Connection, table: str, plugin: PluginRecord) -> int:
    rest = {
        "name": plugin.name,
        "version": plugin.version,
        "options_json": canonical_json(plugin.options),
        "data_hash": plugin.data_hash,
        "distribution": plugin.distribution,
        "code_hash": plugin.code_hash,
    }
    plugin_id = ensure(connection, table, {"key": plugin.key}, rest)
    if plugin.code_hash is not None:
        # A row from before schema version 7 has the hash in its key alone, from which it cannot be recovered.
        statement = f"UPDATE {table} SET code_hash = ? WHERE id = ? AND code_hash IS NULL"
        connection.execute(statement, (plugin.code_hash, plugin_id))
    return plugin_id


def ensure_metrics(connection: sqlite3.Connection, metrics: Iterable[Metric]) -> dict[Metric, int]:
    """Ids of the metrics; missing ones are inserted and become columns of the view ``measurements``."""
    before = _metric_names(connection)
    ids = {
        metric: ensure(
            connection,
            "metrics",
            {"name": metric.name, "direction": metric.direction, "unit": metric.unit, "scale": metric.scale},
            {},
        )
        for metric in metrics
    }
    if _metric_names(connection) != before:
        create_measurements(connection)
    return ids


def _metric_names(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(DISTINCT name) FROM metrics").fetchone()[0])


def _provenance_id(connection: sqlite3.Connection, setting: Setting, evaluation: Evaluation) -> int:
    distributions = {
        "pruner_distribution": setting.pruner.distribution,
        "evaluator_distribution": setting.evaluator.distribution,
    }
    return ensure(
        connection,
        "provenances",
        {**distributions, **(evaluation.versions or versions()), "device": evaluation.device},
        {},
    )


@cache
def versions() -> dict[str, str]:
    """Versions, in this process, of what may change a number: prunecast, torch, transformers and Python."""
    libraries = {name: version(name) for name in ("prunecast", "torch", "transformers")}
    return libraries | {"python": platform.python_version()}
