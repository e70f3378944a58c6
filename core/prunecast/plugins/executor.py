"""The interface of executors, which run measurements: in the process of the run, in others, on other machines.

An executor does not influence the numbers: it starts workers, sends them tasks, and passes on their answers. Jobs,
tasks and answers are plain data that JSON can hold; no weights and no plugin objects are sent. If a worker dies, hangs
or answers nonsense, the run decides what follows (:mod:`prunecast.measure.dispatch`), the same for all executors.
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
        what: ``ready`` if the worker has built its model and may be sent a task; ``answer`` if it has answered a task;
            ``refused`` if it cannot work on this job, with the reason; ``gone`` if it has ended by itself.
        answer: the answer, as the worker gave it.
        reason: reason in one line.
    """

    worker: str
    what: Literal["ready", "answer", "refused", "gone"]
    answer: Plain = field(default_factory=dict)
    reason: str = ""


class Executor(Plugin[OptionsT]):
    """Starts workers, sends tasks to them and receives their answers.

    A worker is a :class:`prunecast.measure.worker.Worker`, made from the job wherever it runs; ``python -m
    prunecast.measure.worker`` is one that speaks JSON lines over its standard streams.

    Example: :mod:`prunecast.plugins.examples.executor`.

    Args:
        options: validated options.

    Attributes:
        tasks_at_once: number of tasks that a worker may be sent at once. It does them in order, with an answer to each.
            With 2 it keeps working while the run searches.
    """

    tasks_at_once: int = 1

    @abstractmethod
    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        """REQUIRED. Begin to start workers; called once, when something has to be measured.

        The call need not wait for them, as an event announces each worker.

        Args:
            job: data from which a worker is made.
            here: does a task in the calling process and returns the answer, for an executor without workers of its own.
                Errors that it raises are not to be caught.

        Raises:
            ExecutorError: no worker can be started, e.g. there is no such machine.
        """

    @abstractmethod
    def send(self, worker: str, task: Plain) -> None:
        """REQUIRED. Send a task to a worker that is ready and has fewer than ``tasks_at_once``.

        The call does not wait for the answer.
        """

    @abstractmethod
    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """REQUIRED. All events since the last call, in order.

        Args:
            seconds: longest time to wait for the first event; then the result is empty.
        """

    @abstractmethod
    def stop(self, worker: str) -> None:
        """REQUIRED. End a worker at once, also during a task. No event of it follows.

        The executor replaces it by another worker if it can, as it does for a worker that has ended by itself.
        """

    @abstractmethod
    def close(self) -> None:
        """REQUIRED. End all workers, and leave nothing running. Called once, also if the run fails."""
