"""The executor ``local``: everything is measured in the process of the run, one after another."""

from collections.abc import Callable, Sequence

from prunecast.plugins import Executor, Plain, PluginOptions, WorkerEvent


class LocalOptions(PluginOptions):
    """No options."""


class Local(Executor[LocalOptions]):
    """One worker: the process of the run."""

    options_model = LocalOptions

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        """Announce the one worker."""
        self._here = here
        self._events = [WorkerEvent("local", "ready")]
        self._task: Plain | None = None

    def send(self, worker: str, task: Plain) -> None:
        """Keep the task until somebody waits for its answer."""
        self._task = task

    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """Do the task, if there is one."""
        events, self._events = self._events, []
        if (task := self._task) is not None:
            self._task = None
            events.append(WorkerEvent("local", "answer", self._here(task)))
        return events

    def stop(self, worker: str) -> None:
        """Nothing: what is here cannot be stopped from here."""

    def close(self) -> None:
        """Nothing is running."""
