"""The executor ``local``: everything is measured in the process of the run, one after another."""

from collections.abc import Callable, Sequence
from itertools import count

from prunecast.plugins import Executor, Plain, PluginOptions, WorkerEvent


class LocalOptions(PluginOptions):
    """No options."""


class Local(Executor[LocalOptions]):
    """One worker: the process of the run."""

    options_model = LocalOptions

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        """Announce the one worker."""
        self._here, self._numbers = here, count(2)
        self._events = [WorkerEvent("local", "ready")]
        self._worker = "local"
        self._task: Plain | None = None

    def send(self, worker: str, task: Plain) -> None:
        """Keep the task until somebody waits for its answer."""
        self._task = task

    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """Do the task, if there is one."""
        events, self._events = self._events, []
        if (task := self._task) is not None:
            self._task = None
            events.append(WorkerEvent(self._worker, "answer", self._here(task)))
        return events

    def stop(self, worker: str) -> None:
        """Drop its task and announce another worker, which is the same process: a task that runs ends by itself."""
        self._worker = f"local {next(self._numbers)}"
        self._task = None
        self._events = [WorkerEvent(self._worker, "ready")]

    def close(self) -> None:
        """Nothing is running."""
