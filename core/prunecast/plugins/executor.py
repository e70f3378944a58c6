"""The interface of executors, which have measurements made: in the process of the run, in others, on other machines.

An executor is no part of what is measured: it starts workers, hands them tasks, and passes on what they answer. Jobs,
tasks and answers are plain data that JSON can hold; no weights and no plugin objects travel. What is done about a
worker that dies, hangs or answers nonsense is decided by the run (:mod:`prunecast.measure.dispatch`), the same for all
executors.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from prunecast.plugins.interfaces import OptionsT, Plugin

Plain = Mapping[str, Any]
"""Plain data: strings, numbers, booleans, None, lists and mappings of them."""


@dataclass(frozen=True)
class WorkerEvent:
    """Something that has happened to a worker.

    Attributes:
        worker: name of the worker, which no other worker of the executor has or had.
        what: ``ready`` once the worker has built its model, and may be sent a task; ``answer`` to its task; ``refused``
            if it cannot work on this job, with the reason; ``gone`` if it has ended without being asked to.
        answer: the answer, as the worker gave it.
        reason: reason in one line.
    """

    worker: str
    what: Literal["ready", "answer", "refused", "gone"]
    answer: Plain = field(default_factory=dict)
    reason: str = ""


class Executor(Plugin[OptionsT]):
    """Starts workers and carries tasks to them and answers back.

    A worker is a :class:`prunecast.measure.worker.Worker`, made from the job wherever it runs; ``python -m
    prunecast.measure.worker`` is one that speaks JSON lines over its standard streams.

    Example: :mod:`prunecast.plugins.examples.executor`.

    Args:
        options: validated options.

    Attributes:
        tasks_at_once: number of tasks that a worker may be sent at once. It does them in order, with an answer to each.
            With 2 it goes on while the run searches.
    """

    tasks_at_once: int = 1

    @abstractmethod
    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        """REQUIRED. Begin to start workers; called once, when there is something to measure.

        It need not wait for them: each announces itself by an event.

        Args:
            job: what a worker is made from.
            here: does a task in the calling process and returns the answer, for an executor without workers of its own.
                What goes wrong with it is raised, and not to be caught.

        Raises:
            ExecutorError: workers cannot be had, e.g. there is no such machine.
        """

    @abstractmethod
    def send(self, worker: str, task: Plain) -> None:
        """REQUIRED. Hand a task to a worker that is ready and has fewer than ``tasks_at_once``.

        It does not wait for the answer.
        """

    @abstractmethod
    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """REQUIRED. Everything that has happened since the last call, in order.

        Args:
            seconds: longest time to wait for the first event; then the result is empty.
        """

    @abstractmethod
    def stop(self, worker: str) -> None:
        """REQUIRED. End a worker at once, whatever it is at. No event of it follows.

        Another one is to take its place, if there can be one; the same holds for a worker that is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """REQUIRED. End all workers, and leave nothing running. Called once, also if the run fails."""
