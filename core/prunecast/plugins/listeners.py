"""Dispatch of run events to listener plugins. A listener that fails causes a warning and never ends the run."""

import json
import logging
from datetime import UTC, datetime
from typing import TextIO

from prunecast.errors import PrunecastError
from prunecast.plugins.events import (
    ArchitectureMeasured,
    Event,
    PredictorFitted,
    RoundFinished,
    RunFinished,
    RunStarted,
)
from prunecast.plugins.hookspecs import hookimpl
from prunecast.plugins.host import PluginHost
from prunecast.plugins.isolation import isolated

logger = logging.getLogger(__name__)


class Listeners:
    """All listeners of a host.

    Args:
        host: host whose plugins may implement event hooks.
    """

    def __init__(self, host: PluginHost) -> None:
        self._manager = host.manager
        self._disabled: set[str] = set()

    def tell(self, event: Event) -> None:
        """Call every hook of this event. A plugin whose hook raises is disabled for the rest of the run."""
        hook = f"prunecast_{event.event}"
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        for implementation in implementations:
            if implementation.plugin_name in self._disabled:
                continue
            others = [each.plugin for each in implementations if each is not implementation]
            try:
                with isolated(implementation.plugin_name, f"its hook {hook}"):
                    self._manager.subset_hook_caller(hook, others)(event=event)
            except PrunecastError as error:
                self._disabled.add(implementation.plugin_name)
                logger.warning("warning: %s; it is disabled for the rest of this run", error)


class EventLog:
    """A listener that writes events as JSON lines: ``time_utc``, ``event`` and the fields of the event.

    Args:
        file: output file. Every line is flushed, so that the file can be followed during the run.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @hookimpl
    def prunecast_run_started(self, event: RunStarted) -> None:
        """Write the event."""
        self._write(event)

    @hookimpl
    def prunecast_architecture_measured(self, event: ArchitectureMeasured) -> None:
        """Write the event."""
        self._write(event)

    @hookimpl
    def prunecast_predictor_fitted(self, event: PredictorFitted) -> None:
        """Write the event."""
        self._write(event)

    @hookimpl
    def prunecast_round_finished(self, event: RoundFinished) -> None:
        """Write the event."""
        self._write(event)

    @hookimpl
    def prunecast_run_finished(self, event: RunFinished) -> None:
        """Write the event."""
        self._write(event)

    def _write(self, event: Event) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._file.write(json.dumps({"time_utc": now, **event.to_json()}, ensure_ascii=False) + "\n")
        self._file.flush()
