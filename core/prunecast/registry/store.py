"""The open registry: finds evaluations by content, records new ones, and records runs.

Any number of processes may use one file at a time. Every write is one ``BEGIN IMMEDIATE`` transaction, so a killed
process loses at most the architecture it was measuring. If two processes measure the same architecture, the evaluation
recorded first is kept.
"""

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from sqlite_utils import Database

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import RegistryError
from prunecast.plugins.interfaces import Measurement
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
from prunecast.registry.records import Evaluation, Failure, Recorded, RunRecord, RunStart, Setting, utc_text
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
    INSERT INTO failures (architecture_id, setting_id, run_id, reason, attempts, last_utc) VALUES (?, ?, ?, ?, 1, ?)
    ON CONFLICT DO UPDATE SET run_id = excluded.run_id, reason = excluded.reason, attempts = attempts + 1,
        last_utc = excluded.last_utc"""

_FIND_STEPS = """
    SELECT s.changes_json FROM steps s JOIN architectures a ON a.id = s.architecture_id
    WHERE s.setting_id = ? AND a.key = ? AND s.version = ?"""

_START_RUN = """
    INSERT INTO runs (key, name, status, started_utc, spec_json, spec_text) VALUES (?, ?, 'running', ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET name = excluded.name, status = 'running', started_utc = excluded.started_utc,
        finished_utc = NULL, spec_json = excluded.spec_json, spec_text = excluded.spec_text, message = ''
    RETURNING id"""

_FINISH_RUN = """
    UPDATE runs SET status = ?, finished_utc = ?, result_json = coalesce(?, result_json), message = ? WHERE id = ?"""


LEAST_DIGITS = 4
"""Least number of first digits that identify a key; with fewer, the id of a missing run could match a key."""


class Registry:
    """An open registry. Use it as a context manager, and from the thread that opened it.

    Attributes:
        path: the file.
        database: the sqlite-utils database, for reading; all writing goes through the methods.
    """

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self.database = database
        self._last_sync = -math.inf

    @classmethod
    def open(cls, path: str | Path, readonly: bool = False) -> Self:
        """Open the registry at ``path``.

        A missing file is created, with its folders, unless ``readonly``. A file with an older schema is copied to
        ``NAME.bak-vN`` beside it and upgraded, unless ``readonly``.

        Raises:
            RegistryError: the file is a folder, not a registry, damaged, or of a newer schema; if ``readonly``, it is
                missing or of an older schema; otherwise, it is not writable. The file is not changed.
        """
        path = Path(path)
        return cls(path, open_database(path, readonly))

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

    def record_failure(self, run_id: int, setting: Setting, architecture: Architecture, reason: str) -> None:
        """Record that an architecture could not be measured under ``setting``, which limits further attempts."""
        with self.transaction() as connection:
            setting_id = ensure_setting(connection, setting)
            (architecture_id,) = ensure_architectures(connection, [architecture])
            connection.execute(_WRITE_FAILURE, (architecture_id, setting_id, run_id, reason, utc_text()))
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

    def start_run(self, key: str, name: str, spec_json: str, spec_text: str) -> RunStart:
        """Start the run of a spec, or start it again, whatever its status.

        A run that is started again keeps its linked evaluations, and its result until it finishes with a new one.

        Args:
            key: content key of the resolved spec; the run's identity.
            name: name from the spec.
            spec_json: the resolved spec as JSON.
            spec_text: text of the spec file.
        """
        with self.transaction() as connection:
            before = connection.execute("SELECT 1 FROM runs WHERE key = ?", (key,)).fetchone()
            row = connection.execute(_START_RUN, (key, name, utc_text(), spec_json, spec_text)).fetchone()
        return RunStart(row[0], resumed=before is not None)

    def finish_run(
        self,
        run_id: int,
        status: Literal["finished", "failed", "interrupted"],
        result: Mapping[str, Any] | None,
        message: str = "",
    ) -> None:
        """Record the end of a run.

        Args:
            run_id: the run.
            status: its final status.
            result: its result, JSON-able; None keeps an earlier result.
            message: the reason it failed or stopped, one line.

        Raises:
            RegistryError: there is no such run, or ``result`` is not JSON-able or holds a NaN or an infinity.
        """
        try:
            result_json = None if result is None else json.dumps(result, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RegistryError(f"{self.path}: result of run {run_id} cannot be stored as JSON: {error}") from error
        with self.transaction() as connection:
            row = (status, utc_text(), result_json, message, run_id)
            if not connection.execute(_FINISH_RUN, row).rowcount:
                raise RegistryError(f"{self.path}: there is no run {run_id} to finish; start it first")

    def runs(self, limit: int | None = None) -> list[RunRecord]:
        """Runs, latest start first, at most ``limit`` of them (None: all)."""
        statement = "SELECT * FROM runs ORDER BY started_utc DESC, id DESC LIMIT ?"
        return [_run_record(row) for row in self.rows(statement, (-1 if limit is None else limit,))]

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


def _run_record(row: dict[str, Any]) -> RunRecord:
    result_json = row.pop("result_json")
    try:
        result = None if result_json is None else json.loads(result_json)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"run {row['id']} ({row['name']}): its result is no JSON ({error})") from error
    if not isinstance(result, dict | None):
        raise RegistryError(f"run {row['id']} ({row['name']}): its result is no mapping; run its spec again")
    return RunRecord(**row, result=result)
