"""Executors whose workers are processes: children of the run that speak JSON lines over their standard streams.

The command of a worker starts ``python -m prunecast.measure.worker`` in the end, here or on another machine. A worker
ends with its input, however the process of the run ends.
"""

import json
import subprocess
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO

from prunecast.errors import ExecutorError
from prunecast.plugins.executor import Executor, Plain, WorkerEvent
from prunecast.plugins.interfaces import OptionsT

END_SECONDS = 5.0
"""Time that a worker has to end by itself."""


@dataclass
class _Child:
    """A worker's process, and the file of its stderr."""

    process: "subprocess.Popen[str]"
    errors: IO[bytes]

    def write(self, message: Plain) -> None:
        """Write a line to its input; the end of a worker that cannot read it comes as an event."""
        if self.process.stdin is not None:
            with suppress(OSError, ValueError):
                self.process.stdin.write(json.dumps(message) + "\n")
                self.process.stdin.flush()

    def close_input(self) -> None:
        """Let it end by itself."""
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()

    def end(self) -> None:
        """Kill it if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.close_input()

    def last_words(self) -> str:
        """How it ended: its exit status and the last line that it has written."""
        status = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        ended = f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"
        return f"{ended} ({lines[-1]})" if lines else ended


@dataclass(frozen=True)
class Place:
    """A place that one worker has at a time.

    Attributes:
        command: starts a worker whose standard streams are those of the command.
        environment: environment variables of the worker; those of this process if not given.
    """

    command: Sequence[str]
    environment: Mapping[str, str] | None = None


class ProcessExecutor(Executor[OptionsT]):
    """An executor that starts a process at each of its places, and another one where one has ended.

    Example: :mod:`prunecast.plugins.examples.executor`.
    """

    tasks_at_once = 2

    @abstractmethod
    def places(self, job: Plain) -> Iterable[Place]:
        """REQUIRED. Where workers run.

        Args:
            job: what a worker is made from.

        Raises:
            ExecutorError: workers cannot be had.
        """

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        """Start a worker at each place.

        Raises:
            ExecutorError: a command cannot be started.
        """
        self._job, self._names = job, count(1)
        self._children: dict[str, _Child] = {}
        self._places: dict[str, Place] = {}
        self._events: SimpleQueue[WorkerEvent] = SimpleQueue()
        for place in self.places(job):
            self._add(place)

    def _add(self, place: Place) -> None:
        name = str(next(self._names))
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # read when the process has ended
        try:
            process = subprocess.Popen(
                place.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=place.environment,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is the run's to handle, and the run ends its workers
            )
        except OSError as error:
            raise ExecutorError(
                f"worker {name} cannot be started by {place.command[0]!r} ({error.strerror})"
            ) from error
        child = self._children[name] = _Child(process, errors)
        self._places[name] = place
        Thread(target=self._listen, args=(name, child), daemon=True).start()
        # Written beside the run, which a worker that does not read would stop otherwise.
        Thread(target=child.write, args=(self._job,), daemon=True).start()

    def _listen(self, name: str, child: _Child) -> None:
        """Turn what a worker writes, and its end, into events."""
        refused = False
        for line in child.process.stdout or ():
            event = _event_of(name, line)
            refused = refused or event.what == "refused"
            self._events.put(event)
        if not refused:
            self._events.put(WorkerEvent(name, "gone", reason=child.last_words()))

    def send(self, worker: str, task: Plain) -> None:
        """Write a task to a worker; one that has just ended is told of by an event."""
        self._children[worker].write(task)

    def events(self, seconds: float) -> list[WorkerEvent]:
        """What has come in from workers that have not been stopped; one that is gone is replaced."""
        found: list[WorkerEvent] = []
        until = time.monotonic() + seconds
        while True:
            try:
                event = self._events.get(timeout=0 if found else max(0.0, until - time.monotonic()))
            except Empty:
                return found
            if event.worker in self._children:
                found.append(event)
                if event.what == "gone":
                    self.stop(event.worker)

    def stop(self, worker: str) -> None:
        """Kill a worker, and start another one at its place."""
        self._children.pop(worker).end()
        self._add(self._places.pop(worker))

    def close(self) -> None:
        """End all workers: by closing their input, and by force what does not end by that."""
        for child in self._children.values():
            child.close_input()
        until = time.monotonic() + END_SECONDS
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, until - time.monotonic()))
            child.end()
        self._children.clear()


def _event_of(worker: str, line: str) -> WorkerEvent:
    """The event that a line of a worker tells."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        return WorkerEvent(worker, "answer", {"line": line})
    if "refused" in message:
        return WorkerEvent(worker, "refused", reason=str(message["refused"]))
    return WorkerEvent(worker, "ready") if "ready" in message else WorkerEvent(worker, "answer", message)
