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
    """Workers by name. Every task has its answer at a later look, unless a fault takes its place.

    Events of several workers come in random order, those of one in the order of its tasks. A worker that hangs or is
    gone does none of the tasks that it has been given since.
    """

    options_model = PluginOptions

    def __init__(self, workers: int, answer: Callable[[Plain], dict[str, Any]], rng: np.random.Generator) -> None:
        super().__init__(PluginOptions())
        self._count, self._answer, self._rng = workers, answer, rng
        self.fault: Fault = lambda worker, task, answer: WorkerEvent(worker, "answer", answer)
        self.alive: dict[str, deque[WorkerEvent | Plain]] = {}
        self.hanging: set[str] = set()
        self.sent: list[tuple[str, Plain]] = []
        self.closed = 0

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        self._names = count(1)
        for _ in range(self._count):
            self._add()

    def _add(self) -> None:
        name = str(next(self._names))
        self.alive[name] = deque([WorkerEvent(name, "ready")])

    def send(self, worker: str, task: Plain) -> None:
        self.sent.append((worker, task))
        self.alive[worker].append(task)
        assert sum(not isinstance(each, WorkerEvent) for each in self.alive[worker]) <= self.tasks_at_once

    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """What some of the workers do next, at least one if there is any at work."""
        at_work = [name for name, todo in self.alive.items() if todo and name not in self.hanging]
        self._rng.shuffle(at_work)
        taken = at_work[: int(self._rng.integers(1, len(at_work) + 1))] if at_work else []
        return [event for name in taken if (event := self._next(name)) is not None]

    def _next(self, worker: str) -> WorkerEvent | None:
        todo = self.alive[worker].popleft()
        event = todo if isinstance(todo, WorkerEvent) else self.fault(worker, todo, self._answer(todo))
        if event is None:
            self.hanging.add(worker)
        elif event.what == "gone":
            self.stop(worker)
        return event

    def stop(self, worker: str) -> None:
        self.alive.pop(worker, None)
        self._add()

    def close(self) -> None:
        self.closed += 1
        self.alive.clear()
