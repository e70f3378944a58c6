"""The event log: everything that happens in a run, one line of JSON an event."""

import json
from datetime import UTC, datetime
from typing import TextIO

from prunecast.events import ArchitectureMeasured, Event, PredictorFitted, RoundFinished, RunFinished, RunStarted
from prunecast.hookspecs import hookimpl


class EventLog:
    """A listener that writes JSON lines: ``time_utc``, ``event`` and the event's fields.

    Args:
        file: where to. Every line is flushed, so that it can be followed while the run goes on.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @hookimpl
    def prunecast_run_started(self, event: RunStarted) -> None:
        """Write it."""
        self._write(event)

    @hookimpl
    def prunecast_architecture_measured(self, event: ArchitectureMeasured) -> None:
        """Write it."""
        self._write(event)

    @hookimpl
    def prunecast_predictor_fitted(self, event: PredictorFitted) -> None:
        """Write it."""
        self._write(event)

    @hookimpl
    def prunecast_round_finished(self, event: RoundFinished) -> None:
        """Write it."""
        self._write(event)

    @hookimpl
    def prunecast_run_finished(self, event: RunFinished) -> None:
        """Write it."""
        self._write(event)

    def _write(self, event: Event) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._file.write(json.dumps({"time_utc": now, **event.to_json()}, ensure_ascii=False) + "\n")
        self._file.flush()
