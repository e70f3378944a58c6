"""The open registry: finds evaluations by content, records new ones, and records runs.

Any number of processes may use one file at a time. Every write is one ``BEGIN IMMEDIATE`` transaction, so a killed
process loses at most the architecture it was measuring. If two processes measure the same architecture, the evaluation
recorded first is kept.
"""

import json
import math
import os
import sqlite3
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from sqlite_utils import Database

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.speed import SpeedTable
from prunecast.errors import RegistryError
from prunecast.keys import canonical_json, content_key
from prunecast.plugins.interfaces import Measurement
from prunecast.registry.holders import LEASE_SECONDS, holds, this_process
from prunecast.registry.identity import (
    CALIBRATION,
    COMPENSATION,
    DTYPE,
    MODEL,
    code_part,
    data_part,
    version_part,
    what_changed,
)
from prunecast.registry.recording import (
    Link,
    Rows,
    StepsRow,
    end_leases,
    ensure_architectures,
    ensure_setting,
    key_bytes,
    record,
    select_in,
    write_links,
    write_steps,
)
from prunecast.registry.records import Evaluation, Failure, Recorded, RunRecord, RunStart, Setting, Timing, utc_text
from prunecast.registry.sqlite.database import immediate, one_line_errors, open_database

SYNC_SECONDS = 1.0
"""Least time between two commits that wait for the disk. A power cut loses the commits of at most this time, a killed
process none. Evaluations longer than this are on disk at once, and many short ones do not each wait for it."""

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

_FIND_EVALUATION_IDS = """
    SELECT a.key, e.id FROM architectures a JOIN evaluations e ON e.setting_id = ? AND e.architecture_id = a.id
    WHERE a.key IN ({marks})"""

_FIND_FAILURES = """
    SELECT a.key, f.reason, f.attempts FROM failures f JOIN architectures a ON a.id = f.architecture_id
    WHERE f.setting_id = ?"""

_WRITE_FAILURE = """
    INSERT INTO failures (architecture_id, setting_id, run_id, reason, attempts, last_utc) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET run_id = excluded.run_id, reason = excluded.reason,
        attempts = attempts + excluded.attempts, last_utc = excluded.last_utc"""

_FIND_STEPS = """
    SELECT s.changes_json FROM steps s JOIN architectures a ON a.id = s.architecture_id
    WHERE s.setting_id = ? AND a.key = ? AND s.version = ?"""

_START_RUN = """
    INSERT INTO runs (key, name, status, started_utc, spec_json, spec_text, identity_json)
    VALUES (?, ?, 'running', ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET name = excluded.name, status = 'running', started_utc = excluded.started_utc,
        finished_utc = NULL, spec_json = excluded.spec_json, spec_text = excluded.spec_text, message = '',
        identity_json = excluded.identity_json
    RETURNING id"""

_RUN_OF_KEY = "SELECT * FROM runs WHERE key = ?"

_USED = """
    SELECT DISTINCT m.key AS model, s.dtype,
        p.name AS pruner, p.version AS pruner_version, p.options_json AS pruner_options,
        p.data_hash AS pruner_data, p.distribution AS pruner_owner, p.code_hash AS pruner_code,
        v.name AS evaluator, v.version AS evaluator_version, v.options_json AS evaluator_options,
        v.data_hash AS evaluator_data, v.distribution AS evaluator_owner, v.code_hash AS evaluator_code
    FROM run_evaluations u
    JOIN evaluations e ON e.id = u.evaluation_id
    JOIN settings s ON s.id = e.setting_id
    JOIN models m ON m.id = s.model_id
    JOIN pruners p ON p.id = s.pruner_id
    JOIN evaluators v ON v.id = s.evaluator_id
    WHERE u.run_id = ?
    ORDER BY u.position"""

_TAKE_RUN_LEASE = "INSERT OR REPLACE INTO run_leases (run_id, holder, expires_utc) VALUES (?, ?, ?)"

_END_EXPIRED_RUN_LEASES = "DELETE FROM run_leases WHERE run_id = ? AND expires_utc < ?"

_END_RUN_LEASE = "DELETE FROM run_leases WHERE run_id = ? AND holder = ?"

_FIND_RUN_LEASES = "SELECT run_id, holder, expires_utc FROM run_leases"

_WRITE_SPEEDS = """
    INSERT OR IGNORE INTO component_times (key, family, device, dtype, threads, batch, context, engine, times_json,
        seconds, measured_utc)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_COMPARED = (
    *("engine", "compared", "max_difference", "greedy_equal", "greedy", "tokens", "perplexity"),
    *("reference_perplexity", "load_seconds", "prefill", "decode"),
)
"""Columns of the comparison of an export."""

_WRITE_EXPORT = f"""
    INSERT OR REPLACE INTO exports (run_id, architecture, target, folder, parameters, bytes, notes_json, exported_utc,
        {", ".join(_COMPARED)})
    VALUES ({", ".join("?" * (8 + len(_COMPARED)))})"""

LEAST_DIGITS = 4
"""Least number of first digits that identify a key; with fewer, the id of a missing run could match a key."""


def registry_path(path: object) -> Path:
    """The path of a registry as a Path. Raises RegistryError if it is no path."""
    if not isinstance(path, str | os.PathLike) or not str(path):
        shown = repr(path) if path is None or path == "" else f"an object of type {type(path).__name__}"
        raise RegistryError(f"registry: must be the path of a file, such as 'registry.db', got {shown}")
    return Path(path)


class Registry:
    """An open registry. Use it as a context manager, and from the thread that opened it.

    Attributes:
        path: the file.
        database: the sqlite-utils database, for reading; all writing goes through the methods.
    """

    def __init__(self, path: str | Path, readonly: bool = False) -> None:
        """Open the registry at ``path``.

        A missing file is created, with its folders, unless ``readonly``. A file with an older schema is copied to
        ``NAME.bak-vN`` beside it and upgraded, unless ``readonly``.

        Raises:
            RegistryError: the path is none, or the file is a folder, not a registry, damaged, or of a newer schema; if
                ``readonly``, it is missing or of an older schema; otherwise, it is not writable. The file is not
                changed.
        """
        self.path = registry_path(path)
        self.database: Database = open_database(self.path, readonly)
        self._last_sync = -math.inf

    @classmethod
    def open(cls, path: str | Path, readonly: bool = False) -> Self:
        """The same as ``Registry(path, readonly)``."""
        return cls(path, readonly)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        with one_line_errors(self.path):
            self.database.close()

    def rows(
        self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> Iterator[dict[str, Any]]:
        """Rows of a SELECT as dicts by column, fetched one at a time.

        Raises:
            RegistryError: the file is damaged or cannot be read.
        """
        with one_line_errors(self.path):
            cursor = self.database.conn.execute(statement, parameters)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    def setting_id(self, setting: Setting) -> int | None:
        """Id of the setting in this file; None if it is not stored."""
        keys = (setting.model.fingerprint, setting.pruner.key, setting.evaluator.key, setting.dtype)
        row = next(self.rows(_FIND_SETTING, keys), None)
        return None if row is None else int(row["id"])

    def lookup(
        self, setting: Setting, architectures: Sequence[Architecture]
    ) -> dict[Architecture, dict[str, Recorded]]:
        """Measured numbers of ``architectures`` under ``setting``.

        Returns:
            Numbers by metric name for each architecture that has been measured, in the order given.
        """
        with one_line_errors(self.path):
            setting_id = self.setting_id(setting)
            if setting_id is None:
                return {}
            found: dict[bytes, dict[str, Recorded]] = {}
            keys = [key_bytes(architecture) for architecture in architectures]
            for key, metric, *numbers in select_in(self.database.conn, _FIND_EVALUATIONS, keys, setting_id):
                found.setdefault(key, {})[metric] = Recorded(*numbers)
        return {a: found[key] for a, key in zip(architectures, keys, strict=True) if key in found}

    def evaluation_ids(self, setting: Setting, architectures: Sequence[Architecture]) -> dict[Architecture, int]:
        """Ids of the evaluations of those of ``architectures`` that have one; later ones have larger ids."""
        with one_line_errors(self.path):
            keys = [key_bytes(architecture) for architecture in architectures]
            ids = dict(select_in(self.database.conn, _FIND_EVALUATION_IDS, keys, self.setting_id(setting)))
        return {a: ids[key] for a, key in zip(architectures, keys, strict=True) if key in ids}

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
        """Store one evaluation and link it to the run, as :meth:`record_many` does."""
        self.record_many(run_id, stage, [Evaluation(setting, architecture, measurements, seconds, device)])

    def record_many(self, run_id: int, stage: str, evaluations: Sequence[Evaluation]) -> None:
        """Store evaluations in one transaction and link them to the run.

        If another process has recorded the same architecture under the same setting meanwhile, that evaluation stays
        and is linked instead. Leases on the recorded architectures end.

        Args:
            run_id: the run that measured them.
            stage: the stage of the run they were measured for.
            evaluations: the measured architectures.

        Raises:
            RegistryError: there is no measurement, two of one metric, a number that is not finite, a standard error,
                count or time below zero, or a count of more than 64 bits: nothing of the batch is stored; or the file
                cannot be written, e.g. the disk is full.
        """
        rows = Rows(evaluations)
        with self.transaction() as connection:
            record(connection, run_id, stage, rows)

    def note_reuse(self, run_id: int, stage: str, setting: Setting, architectures: Sequence[Architecture]) -> None:
        """Link stored evaluations to the run; architectures without one, or linked already, are skipped."""
        with self.transaction() as connection:
            setting_id = self.setting_id(setting)
            if setting_id is not None:
                keys = [key_bytes(architecture) for architecture in architectures]
                found = select_in(connection, _FIND_EVALUATION_IDS, keys, setting_id)
                ids: dict[bytes, int] = dict(found)
                write_links(connection, (Link(run_id, ids[key], stage, True) for key in keys if key in ids))

    def record_failure(
        self, run_id: int, setting: Setting, architecture: Architecture, reason: str, attempts: int = 1
    ) -> None:
        """Record that an architecture could not be measured under ``setting``, which limits further attempts.

        Args:
            run_id: the run.
            setting: the setting.
            architecture: the architecture.
            reason: reason in one line.
            attempts: number of attempts that failed.
        """
        with self.transaction() as connection:
            setting_id = ensure_setting(connection, setting)
            (architecture_id,) = ensure_architectures(connection, [architecture])
            connection.execute(_WRITE_FAILURE, (architecture_id, setting_id, run_id, reason, attempts, utc_text()))
            end_leases(connection, setting_id, [architecture_id])

    def failures(self, setting: Setting, architectures: Sequence[Architecture]) -> dict[Architecture, Failure]:
        """Recorded failures of those of ``architectures`` that have one under ``setting``, in the order given."""
        with one_line_errors(self.path):
            rows = self.database.conn.execute(_FIND_FAILURES, (self.setting_id(setting),)).fetchall()
        found = {key: Failure(reason, attempts) for key, reason, attempts in rows}
        return {a: found[key_bytes(a)] for a in architectures if key_bytes(a) in found}

    def steps(
        self, setting: Setting, architecture: Architecture, version: int
    ) -> dict[tuple[int, Layer], tuple[float, float]]:
        """Local sensitivities around ``architecture`` under ``setting``; empty if none are stored.

        Args:
            setting: the setting they were estimated under.
            architecture: the expansion point.
            version: version of the estimator; results of another version are not returned.

        Returns:
            For each layer and each other size of it, two terms of the estimated change of the setting's one metric, on
            the scale that predictors learn: first order and second order.
        """
        row = next(self.rows(_FIND_STEPS, (self.setting_id(setting), key_bytes(architecture), version)), None)
        changes = [] if row is None else json.loads(row["changes_json"])
        return {(row[0], Layer(*row[1:4])): (row[4], row[5]) for row in changes}

    def record_steps(
        self,
        run_id: int,
        setting: Setting,
        architecture: Architecture,
        version: int,
        changes: Mapping[tuple[int, Layer], tuple[float, float]],
        seconds: float,
    ) -> None:
        """Store the local sensitivities around an architecture in place of those already stored.

        Args:
            run_id: the run that estimated them.
            setting: the setting they were estimated under.
            architecture: the expansion point.
            version: version of the estimator.
            changes: first-order and second-order term of each change, as :meth:`steps` returns them.
            seconds: duration of the estimate.

        Raises:
            RegistryError: a change is not finite, or the file cannot be written.
        """
        rows = [[layer, *kept, *change] for (layer, kept), change in sorted(changes.items())]
        try:
            changes_json = json.dumps(rows, allow_nan=False, separators=(",", ":"))
        except ValueError as error:
            raise RegistryError(f"{self.path}: steps around {architecture} are not finite: {error}") from error
        with self.transaction() as connection:
            setting_id = ensure_setting(connection, setting)
            (architecture_id,) = ensure_architectures(connection, [architecture])
            row = StepsRow(architecture_id, setting_id, run_id, changes_json, seconds, utc_text(), version)
            write_steps(connection, row)

    def start_run(
        self, key: str, name: str, spec_json: str, spec_text: str, identity: Mapping[str, str] | None = None
    ) -> RunStart:
        """Start the run of a spec, or start it again, whatever its status.

        A run that is started again keeps its linked evaluations, and its result until it finishes with a new one. If
        its model, data or code have changed since, a run of its own is started beside it. This process gets a lease on
        the run, which :func:`prunecast.registry.leases.running` renews.

        Args:
            key: content key of the resolved spec; the key of its first run.
            name: name from the spec.
            spec_json: the resolved spec as JSON.
            spec_text: text of the spec file.
            identity: hashes of everything that its numbers depend on, by description.
        """
        identity = dict(identity or {})
        before, changed = self._run_of_key(key), ""
        if before is not None and (parts := what_changed(self.identity_of(before), identity)):
            changed = f"{', '.join(parts)} changed since {before.described}"
            key = content_key([key, identity])
            before = self._run_of_key(key)
        with self.transaction() as connection:
            values = (key, name, utc_text(), spec_json, spec_text, canonical_json(identity))
            (number,) = connection.execute(_START_RUN, values).fetchone()
            connection.execute(_END_EXPIRED_RUN_LEASES, (number, utc_text()))
            connection.execute(_TAKE_RUN_LEASE, (number, this_process(), utc_text(LEASE_SECONDS)))
        return RunStart(number, before, changed)

    def _run_of_key(self, key: str) -> RunRecord | None:
        return next((_run_record(row, self._runs_at_work()) for row in self.rows(_RUN_OF_KEY, (key,))), None)

    def identity_of(self, run: RunRecord) -> dict[str, str]:
        """Hashes of everything that the numbers of a run depend on, by description.

        For a run of a schema version before 8 they are read from the settings of the evaluations it used, which hold
        no hash of the tokenizer.
        """
        if run.identity:
            return dict(run.identity)
        parts: dict[str, str | None] = {}
        for row in self.rows(_USED, (run.id,)):
            if "+" in row["pruner"]:
                continue  # a recovered model: the pruner's own row describes the rest
            compensated = "compensate" in json.loads(row["pruner_options"])
            parts |= {
                MODEL: row["model"],
                DTYPE: row["dtype"],
                COMPENSATION if compensated else CALIBRATION: row["pruner_data"],
                data_part(row["evaluator"], json.loads(row["evaluator_options"])): row["evaluator_data"],
                version_part(row["pruner"]): str(row["pruner_version"]),
                version_part(row["evaluator"]): str(row["evaluator_version"]),
                code_part(row["pruner_owner"]): row["pruner_code"],
                code_part(row["evaluator_owner"]): row["evaluator_code"],
            }
        return {part: value for part, value in parts.items() if value is not None}

    def finish_run(
        self,
        run_id: int,
        status: Literal["finished", "failed", "interrupted"],
        result: Mapping[str, Any] | None,
        message: str = "",
    ) -> None:
        """Record the end of a run in this process.

        If another process is at the same run, a run that does not finish here stays running.

        Args:
            run_id: the run.
            status: its final status.
            result: its result, JSON-able; None keeps an earlier result.
            message: the reason it failed or stopped, one line.

        Raises:
            RegistryError: there is no such run, or ``result`` is not JSON-able or holds a NaN or an infinity.
        """
        result_json = None if result is None else self._result_json(run_id, result)
        columns = "status = ?, finished_utc = ?, result_json = coalesce(?, result_json), message = ?"
        with self.transaction() as connection:
            connection.execute(_END_RUN_LEASE, (run_id, this_process()))
            if status == "finished" or run_id not in self._runs_at_work():
                self._update_run(connection, run_id, columns, (status, utc_text(), result_json, message))

    def keep_result(self, run_id: int, result: Mapping[str, Any]) -> None:
        """Store the result of a run that is still running, so that what comes after it can fail without losing it.

        Raises:
            RegistryError: as for :meth:`finish_run`.
        """
        with self.transaction() as connection:
            self._update_run(connection, run_id, "result_json = ?", (self._result_json(run_id, result),))

    def keep_exports(self, run_id: int, exports: Sequence[Mapping[str, Any]]) -> None:
        """Record what was written of models of a run; a folder that was written before has its new content only.

        Args:
            run_id: the run.
            exports: reports of the exports as JSON. Those that wrote nothing are left out.

        Raises:
            RegistryError: the file cannot be written, or there is no such run.
        """
        rows = [(run_id, *_export_row(each)) for each in exports if not each["unchanged"]]
        if rows:
            with self.transaction() as connection:
                connection.executemany(_WRITE_EXPORT, rows)

    def exports(self, run_id: int) -> list[dict[str, Any]]:
        """What was written of the models of a run, oldest first: columns of the table ``exports``."""
        return list(self.rows("SELECT * FROM exports WHERE run_id = ? ORDER BY id", (run_id,)))

    def speeds(self, timing: Timing) -> SpeedTable | None:
        """The table of component times that was measured under these conditions, if any."""
        row = next(self.rows("SELECT times_json FROM component_times WHERE key = ?", (timing.key,)), None)
        return None if row is None else SpeedTable.from_json(row["times_json"])

    def keep_speeds(self, timing: Timing, table: SpeedTable, seconds: float) -> SpeedTable:
        """Record a table of component times. The table recorded first is kept, and returned.

        Raises:
            RegistryError: the file cannot be written.
        """
        row = (timing.key, *timing.conditions, table.to_json(), seconds, utc_text())
        with self.transaction() as connection:
            connection.execute(_WRITE_SPEEDS, row)
        return self.speeds(timing) or table

    def finish_again(self, earlier: RunRecord, result: Mapping[str, Any]) -> None:
        """Record that a finished run has been run again and measured nothing: it keeps its times.

        Args:
            earlier: the run as it was before.
            result: its result, JSON-able.

        Raises:
            RegistryError: as for :meth:`finish_run`.
        """
        columns = "status = 'finished', started_utc = ?, finished_utc = ?, result_json = ?, message = ''"
        times = (earlier.started_utc, earlier.finished_utc)
        with self.transaction() as connection:
            connection.execute(_END_RUN_LEASE, (earlier.id, this_process()))
            self._update_run(connection, earlier.id, columns, (*times, self._result_json(earlier.id, result)))

    def _update_run(self, connection: sqlite3.Connection, run_id: int, columns: str, values: Sequence[object]) -> None:
        if not connection.execute(f"UPDATE runs SET {columns} WHERE id = ?", (*values, run_id)).rowcount:
            raise RegistryError(f"{self.path}: there is no run {run_id} to finish; start it first")

    def _result_json(self, run_id: int, result: Mapping[str, Any]) -> str:
        try:
            return json.dumps(result, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RegistryError(f"{self.path}: result of run {run_id} cannot be stored as JSON: {error}") from error

    def runs(self, limit: int | None = None) -> list[RunRecord]:
        """Runs, latest start first, at most ``limit`` of them (None: all)."""
        statement = "SELECT * FROM runs ORDER BY started_utc DESC, id DESC LIMIT ?"
        at_work = self._runs_at_work()
        return [_run_record(row, at_work) for row in self.rows(statement, (-1 if limit is None else limit,))]

    def _runs_at_work(self) -> set[int]:
        """Ids of the runs that a process is executing now, as far as can be told."""
        return {row["run_id"] for row in self.rows(_FIND_RUN_LEASES) if holds(row["holder"], row["expires_utc"])}

    def run(self, wanted: int | str) -> RunRecord:
        """The run with this id, else the latest with this name, else the one whose key starts with these digits.

        A key needs at least its first 4 digits.

        Raises:
            RegistryError: there is none, or several keys start with these digits.
        """
        runs = self.runs()
        text = str(wanted)
        for matches in (
            [run for run in runs if str(run.id) == text],
            [run for run in runs if run.name == text][:1],
            [run for run in runs if len(text) >= LEAST_DIGITS and run.key.startswith(text)],
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
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed at the end, undone by any error.

        Raises:
            RegistryError: the file cannot be written, or another process has kept it locked for too long.
        """
        connection, now = self.database.conn, time.monotonic()
        sync = now - self._last_sync >= SYNC_SECONDS
        with one_line_errors(self.path):
            connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            with immediate(connection):
                yield connection
        self._last_sync = now if sync else self._last_sync


def _run_record(row: dict[str, Any], at_work: Container[int]) -> RunRecord:
    if row["status"] == "running" and row["id"] not in at_work:
        row |= {"status": "interrupted", "message": "its process is gone; run its spec again to continue it"}
    result_json = row.pop("result_json")
    identity = json.loads(row.pop("identity_json", "{}"))
    try:
        result = None if result_json is None else json.loads(result_json)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"run {row['id']} ({row['name']}): its result is no JSON ({error})") from error
    if not isinstance(result, dict | None):
        raise RegistryError(f"run {row['id']} ({row['name']}): its result is no mapping; run its spec again")
    return RunRecord(**row, result=result, identity=identity)


def _export_row(report: Mapping[str, Any]) -> tuple[object, ...]:
    """Values of a row of the table ``exports`` after the run."""
    parity = report["parity"] or {}
    notes = canonical_json([*report["notes"], *parity.get("notes", ())])
    facts = (
        report["architecture"],
        report["target"],
        report["folder"],
        report["parameters"],
        report["bytes"],
        notes,
        utc_text(),
    )
    return (*facts, *(parity.get(name) for name in _COMPARED))
