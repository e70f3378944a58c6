"""The open registry: finds evaluations by content, records new ones, keeps track of runs.

Any number of processes may use one file at a time. Every write is one ``BEGIN IMMEDIATE`` transaction, so a killed
process loses at most the architecture it was measuring, and of two processes that measure the same, the first one to
finish is kept.
"""

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

from sqlite_utils import Database

from prunecast.architecture import Architecture
from prunecast.errors import RegistryError
from prunecast.interfaces import Measurement, Metric
from prunecast.registry.database import immediate, open_database, told_in_one_line
from prunecast.registry.keys import canonical_json
from prunecast.registry.records import (
    Failure,
    PluginRecord,
    Recorded,
    RunRecord,
    RunStart,
    Setting,
    shape_to_json,
)

_LOOKUP_CHUNK = 500

_FIND_SETTING = """
    SELECT s.id FROM settings s
    JOIN models m ON m.id = s.model_id JOIN pruners p ON p.id = s.pruner_id JOIN evaluators v ON v.id = s.evaluator_id
    WHERE m.key = ? AND p.key = ? AND v.key = ? AND s.dtype = ?"""

_FIND_EVALUATIONS = """
    SELECT a.key, n.name, x.value, x.standard_error, x.count
    FROM architectures a
    JOIN evaluations e ON e.setting_id = ? AND e.architecture_id = a.id
    JOIN metric_values x ON x.evaluation_id = e.id
    JOIN metrics n ON n.id = x.metric_id
    WHERE a.key IN ({marks})
    ORDER BY x.evaluation_id, x.metric_id"""

_FIND_FAILURES = """
    SELECT a.key, f.reason, f.attempts FROM failures f JOIN architectures a ON a.id = f.architecture_id
    WHERE f.setting_id = ?"""

_NOTE_FAILURE = """
    INSERT INTO failures (setting_id, architecture_id, run_id, reason, attempts, last_utc) VALUES (?, ?, ?, ?, 1, ?)
    ON CONFLICT DO UPDATE SET run_id = excluded.run_id, reason = excluded.reason, attempts = attempts + 1,
        last_utc = excluded.last_utc"""

_LINK = """
    INSERT INTO run_evaluations (run_id, position, evaluation_id, stage, cached)
    SELECT :run, (SELECT coalesce(max(position), 0) + 1 FROM run_evaluations WHERE run_id = :run), e.id, :stage, :cached
    FROM evaluations e JOIN architectures a ON a.id = e.architecture_id
    WHERE e.setting_id = :setting AND a.key = :architecture
    ON CONFLICT DO NOTHING"""

_START_RUN = """
    INSERT INTO runs (key, name, status, started_utc, spec_json, spec_text) VALUES (?, ?, 'running', ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET name = excluded.name, status = 'running', started_utc = excluded.started_utc,
        finished_utc = NULL, spec_json = excluded.spec_json, spec_text = excluded.spec_text, result_json = NULL,
        message = ''
    RETURNING id"""

_FINISH_RUN = "UPDATE runs SET status = ?, finished_utc = ?, result_json = ?, message = ? WHERE id = ?"


class Registry:
    """An open registry. Use it as a context manager, and from the thread that opened it.

    Attributes:
        path: the file.
        database: the sqlite-utils database, for reading; write through the methods only.
    """

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self.database = database

    @classmethod
    def open(cls, path: str | Path, readonly: bool = False) -> Self:
        """Open the registry at ``path``.

        A missing file is made, with its folders, unless ``readonly``. A file with an older schema is copied to
        ``NAME.bak-vN`` beside it and upgraded, unless ``readonly``.

        Raises:
            RegistryError: the file is a folder, missing (``readonly``), no registry, damaged, of a newer schema, of an
                older schema (``readonly``) or not writable (else). The file is left as it is.
        """
        path = Path(path)
        return cls(path, open_database(path, readonly))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        with told_in_one_line(self.path):
            self.database.close()

    def rows(
        self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> Iterator[dict[str, Any]]:
        """Rows of a SELECT, one after the other, as dicts by column.

        Raises:
            RegistryError: the file is damaged or cannot be read.
        """
        with told_in_one_line(self.path):
            cursor = self.database.conn.execute(statement, parameters)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    def setting_id(self, setting: Setting) -> int | None:
        """Id of the setting in this file; None if nothing has been measured under it."""
        keys = (setting.model.fingerprint, setting.pruner.key, setting.evaluator.key, setting.dtype)
        row = next(self.rows(_FIND_SETTING, keys), None)
        return None if row is None else int(row["id"])

    def lookup(
        self, setting: Setting, architectures: Sequence[Architecture]
    ) -> dict[Architecture, dict[str, Recorded]]:
        """What is known of ``architectures`` under ``setting``.

        Returns:
            Measured numbers by metric name for each architecture that has been measured, in the order given.
        """
        with told_in_one_line(self.path):
            setting_id = self.setting_id(setting)
            if setting_id is None:
                return {}
            found: dict[bytes, dict[str, Recorded]] = {}
            for start in range(0, len(architectures), _LOOKUP_CHUNK):
                keys = [_key_bytes(architecture) for architecture in architectures[start : start + _LOOKUP_CHUNK]]
                statement = _FIND_EVALUATIONS.format(marks=",".join("?" * len(keys)))
                for key, metric, *numbers in self.database.conn.execute(statement, (setting_id, *keys)):
                    found.setdefault(key, {})[metric] = Recorded(*numbers)
        return {a: found[_key_bytes(a)] for a in architectures if _key_bytes(a) in found}

    def record(
        self,
        run_id: int,
        stage: str,
        setting: Setting,
        architecture: Architecture,
        measurements: Sequence[Measurement],
        seconds: float,
        device: str,
    ) -> None:
        """Keep an evaluation, for good, and link it to the run.

        If another process has recorded the same architecture under the same setting meanwhile, that evaluation stays
        and is the one linked. Numbers may be numpy or torch scalars.

        Args:
            run_id: the run that measured it.
            stage: the stage of the run it was measured for.
            setting: what it was measured under.
            architecture: what was measured.
            measurements: at least one, each of another metric.
            seconds: how long that took.
            device: where it was measured, e.g. ``cpu`` or ``cuda``.

        Raises:
            RegistryError: there is no measurement, two of one metric, a number that is not finite, or a standard error,
                count or time below zero; or the file cannot be written, e.g. the disk is full.
        """
        numbers = _plain_numbers(architecture, measurements)
        plain_seconds = _plain(seconds, f"seconds for {architecture}", least=0.0)
        with self._write() as connection:
            setting_id = _setting_id(connection, setting)
            identity = (setting_id, _architecture_id(connection, architecture))
            inserted = connection.execute(
                "INSERT INTO evaluations (setting_id, architecture_id, run_id, provenance_id, parameters, seconds, "
                "measured_utc) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
                (
                    *identity,
                    run_id,
                    _provenance_id(connection, device),
                    int(setting.model.shape.count([architecture])[0]),
                    plain_seconds,
                    _now_utc(),
                ),
            ).fetchall()
            for (evaluation_id,) in inserted:
                connection.executemany(
                    "INSERT INTO metric_values VALUES (?, ?, ?, ?, ?)",
                    [(evaluation_id, _metric_id(connection, metric), *plain) for metric, plain in numbers.items()],
                )
            _link(connection, run_id, stage, setting_id, [architecture], cached=not inserted)

    def note_reuse(self, run_id: int, stage: str, setting: Setting, architectures: Sequence[Architecture]) -> None:
        """Link evaluations that are already there to the run; what is not there or linked already is passed over."""
        with self._write() as connection:
            setting_id = self.setting_id(setting)
            if setting_id is not None:
                _link(connection, run_id, stage, setting_id, architectures, cached=True)

    def record_failure(self, run_id: int, setting: Setting, architecture: Architecture, reason: str) -> None:
        """Note that an architecture could not be measured under ``setting``, so that it is not tried for ever."""
        with self._write() as connection:
            identity = (_setting_id(connection, setting), _architecture_id(connection, architecture))
            connection.execute(_NOTE_FAILURE, (*identity, run_id, reason, _now_utc()))

    def failures(self, setting: Setting, architectures: Sequence[Architecture]) -> dict[Architecture, Failure]:
        """Those of ``architectures`` that could once not be measured under ``setting``, in the order given."""
        with told_in_one_line(self.path):
            rows = self.database.conn.execute(_FIND_FAILURES, (self.setting_id(setting),)).fetchall()
        found = {key: Failure(reason, attempts) for key, reason, attempts in rows}
        return {a: found[_key_bytes(a)] for a in architectures if _key_bytes(a) in found}

    def start_run(self, key: str, name: str, spec_json: str, spec_text: str) -> RunStart:
        """Start the run of a spec, or start it again, however it ended before; its evaluations stay linked to it.

        Args:
            key: content key of the resolved spec; the run's identity.
            name: name from the spec.
            spec_json: the resolved spec as JSON.
            spec_text: the spec file as it was written.
        """
        with self._write() as connection:
            before = connection.execute("SELECT 1 FROM runs WHERE key = ?", (key,)).fetchone()
            row = connection.execute(_START_RUN, (key, name, _now_utc(), spec_json, spec_text)).fetchone()
        return RunStart(row[0], resumed=before is not None)

    def finish_run(
        self,
        run_id: int,
        status: Literal["finished", "failed", "interrupted"],
        result: Mapping[str, Any] | None,
        message: str = "",
    ) -> None:
        """Note how a run ended.

        Args:
            run_id: the run.
            status: how it ended.
            result: what it came to, JSON-able; None if nothing.
            message: one line about why it failed or stopped.

        Raises:
            RegistryError: there is no such run, or ``result`` is not JSON-able or holds a NaN or an infinity.
        """
        try:
            result_json = None if result is None else json.dumps(result, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RegistryError(f"{self.path}: result of run {run_id} cannot be kept as JSON: {error}") from error
        with self._write() as connection:
            row = (status, _now_utc(), result_json, message, run_id)
            if not connection.execute(_FINISH_RUN, row).rowcount:
                raise RegistryError(f"{self.path}: there is no run {run_id} to finish; start it first")

    def runs(self, limit: int | None = None) -> list[RunRecord]:
        """Runs, latest start first, at most ``limit`` of them."""
        statement = "SELECT * FROM runs ORDER BY started_utc DESC, id DESC LIMIT ?"
        return [_run_record(row) for row in self.rows(statement, (-1 if limit is None else limit,))]

    def run(self, wanted: int | str) -> RunRecord:
        """The run with this id, else the latest with this name, else the one whose key starts like this.

        Raises:
            RegistryError: there is none, or several keys start like this.
        """
        runs = self.runs()
        text = str(wanted)
        for matches in (
            [run for run in runs if str(run.id) == text],
            [run for run in runs if run.name == text][:1],
            [run for run in runs if text and run.key.startswith(text)],
        ):
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise RegistryError(
                    f"{self.path}: {len(matches)} runs have a key that starts with {text!r}; write more of it"
                )
        known = ", ".join(f"{run.id} ({run.name})" for run in runs[:10]) or "none"
        raise RegistryError(f"{self.path}: no run has the id, name or key {text!r}; latest runs: {known}")

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with told_in_one_line(self.path), immediate(self.database.conn):
            yield self.database.conn


def _plain_numbers(
    architecture: Architecture, measurements: Sequence[Measurement]
) -> dict[Metric, tuple[float, float | None, int]]:
    if not measurements:
        raise RegistryError(f"evaluation of {architecture} has no measurement; an evaluator must return one a metric")
    names = [measurement.metric.name for measurement in measurements]
    if len(set(names)) < len(names):
        raise RegistryError(f"evaluation of {architecture} has two measurements of one metric: {', '.join(names)}")
    return {measurement.metric: _plain_measurement(architecture, measurement) for measurement in measurements}


def _plain_measurement(architecture: Architecture, measurement: Measurement) -> tuple[float, float | None, int]:
    what = f"{measurement.metric.name} of {architecture}"
    error = measurement.standard_error
    return (
        _plain(measurement.value, what, least=-math.inf),
        None if error is None else _plain(error, f"standard error of {what}", least=0.0),
        int(_plain(measurement.count, f"count of {what}", least=0.0)),
    )


def _plain(number: float, what: str, least: float) -> float:
    """The number as a Python float: SQLite would keep a numpy scalar as a BLOB and a NaN as NULL."""
    plain = float(number)
    if not math.isfinite(plain) or plain < least:
        wanted = "a finite number" if math.isinf(least) else f"a finite number of at least {least:g}"
        raise RegistryError(f"{what} is {plain}, not {wanted}; it was not recorded")
    return plain


def _row_id(
    connection: sqlite3.Connection, table: str, identity: Mapping[str, object], rest: Mapping[str, object] | None = None
) -> int:
    """Id of the row of ``table`` that has ``identity``, made with ``rest`` if there is none."""
    columns = {**identity, **(rest or {})}
    marks = ", ".join("?" * len(columns))
    where = " AND ".join(f"{name} = ?" for name in identity)
    find = f"SELECT id FROM {table} WHERE {where}"
    row = connection.execute(find, tuple(identity.values())).fetchone()
    if row is None:
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) RETURNING id"
        row = connection.execute(insert, tuple(columns.values())).fetchone()
    return int(row[0])


def _setting_id(connection: sqlite3.Connection, setting: Setting) -> int:
    model = setting.model
    sizes = {
        "source": model.source,
        "family": model.shape.family,
        "parameters": int(model.shape.count([model.shape.dense])[0]),
        "shape_json": shape_to_json(model.shape),
    }
    return _row_id(
        connection,
        "settings",
        {
            "model_id": _row_id(connection, "models", {"key": model.fingerprint}, sizes),
            "pruner_id": _plugin_id(connection, "pruners", setting.pruner),
            "evaluator_id": _plugin_id(connection, "evaluators", setting.evaluator),
            "dtype": setting.dtype,
        },
    )


def _plugin_id(connection: sqlite3.Connection, table: str, plugin: PluginRecord) -> int:
    rest = {
        "name": plugin.name,
        "version": plugin.version,
        "options_json": canonical_json(plugin.options),
        "data_hash": plugin.data_hash,
        "distribution": plugin.distribution,
    }
    return _row_id(connection, table, {"key": plugin.key}, rest)


def _architecture_id(connection: sqlite3.Connection, architecture: Architecture) -> int:
    key = _key_bytes(architecture)
    row = connection.execute("SELECT id FROM architectures WHERE key = ?", (key,)).fetchone()
    if row is not None:
        return int(row[0])
    ids = {layer: _row_id(connection, "layers", layer._asdict()) for layer in dict.fromkeys(architecture.layers)}
    layer_ids = canonical_json([ids[layer] for layer in architecture.layers])
    rest = {"depth": len(architecture.layers), "layer_ids_json": layer_ids}
    return _row_id(connection, "architectures", {"key": key}, rest)


def _metric_id(connection: sqlite3.Connection, metric: Metric) -> int:
    identity = {"name": metric.name, "direction": metric.direction, "unit": metric.unit, "scale": metric.scale}
    return _row_id(connection, "metrics", identity)


def _provenance_id(connection: sqlite3.Connection, device: str) -> int:
    return _row_id(connection, "provenances", {**_versions(), "device": device})


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("prunecast", "torch", "transformers")}


def _link(
    connection: sqlite3.Connection,
    run_id: int,
    stage: str,
    setting_id: int,
    architectures: Sequence[Architecture],
    cached: bool,
) -> None:
    links = {"run": run_id, "stage": stage, "setting": setting_id, "cached": int(cached)}
    connection.executemany(
        _LINK, [links | {"architecture": _key_bytes(architecture)} for architecture in architectures]
    )


def _run_record(row: dict[str, Any]) -> RunRecord:
    result = row.pop("result_json")
    return RunRecord(**row, result=None if result is None else json.loads(result))


def _key_bytes(architecture: Architecture) -> bytes:
    return bytes.fromhex(architecture.key)


def _now_utc() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
