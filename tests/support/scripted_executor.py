"""An executor whose workers are steps of a script in this process: they answer at once, or do what a fault says."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from prunecast.plugins import Executor, Plain, PluginOptions, WorkerEvent

Fault = Callable[[str, Plain, dict[str, Any]], WorkerEvent | None]
"""What becomes of a task: an event instead of the answer, or None if the worker hangs."""


class Scripted(Executor[PluginOptions]):
    """Workers by name. Every task has its answer at the next look, in random order, unless a fault takes its place."""

    options_model = PluginOptions

    def __init__(self, workers: int, answer: Callable[[Plain], dict[str, Any]], rng: np.random.Generator) -> None:
        super().__init__(PluginOptions())
        self._count, self._answer, self._rng = workers, answer, rng
        self.fault: Fault = lambda worker, task, answer: WorkerEvent(worker, "answer", answer)
        self.alive: set[str] = set()
        self.sent: list[tuple[str, Plain]] = []
        self.closed = 0

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        self._names, self._queue = count(1), deque[WorkerEvent]()
        for _ in range(self._count):
            self._add()

    def _add(self) -> None:
        name = str(next(self._names))
        self.alive.add(name)
        self._queue.append(WorkerEvent(name, "ready"))

    def send(self, worker: str, task: Plain) -> None:
        assert worker in self.alive
        self.sent.append((worker, task))
        event = self.fault(worker, task, self._answer(task))
        if event is not None:
            self._queue.append(event)

    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """Some of what has happened, at least one event if there is any."""
        events = [event for event in self._queue if event.worker in self.alive]
        self._queue.clear()
        self._rng.shuffle(events)  # type: ignore[arg-type]
        taken = int(self._rng.integers(1, len(events) + 1)) if events else 0
        self._queue.extend(events[taken:])
        for event in events[:taken]:
            if event.what == "gone":
                self.stop(event.worker)
        return events[:taken]

    def stop(self, worker: str) -> None:
        self.alive.discard(worker)
        self._add()

    def close(self) -> None:
        self.closed += 1
        self.alive.clear()
