"""An executor: workers started by commands, such as ``ssh`` to other machines."""

import shlex
import sys
from collections.abc import Callable, Sequence
from itertools import count

from pydantic import Field

from prunecast.plugins import Executor, Plain, PluginOptions, WorkerEvent, WorkerProcesses


class CommandsOptions(PluginOptions):
    """Options of the executor."""

    commands: tuple[str, ...] = Field(
        (f"{shlex.quote(sys.executable)} -P -m prunecast.measure.worker",),
        min_length=1,
        description="Command of each worker, e.g. 'ssh gpu1 python -m prunecast.measure.worker'.",
    )


class Commands(Executor[CommandsOptions]):
    """A worker for each command, whose standard streams are the worker's."""

    options_model = CommandsOptions

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        """Run every command once."""
        self._job, self._numbers, self._processes = job, count(1), WorkerProcesses()
        self._commands: dict[str, str] = {}
        for command in self.options.commands:
            self._add(command)

    def _add(self, command: str) -> None:
        name = str(next(self._numbers))
        self._commands[name] = command
        self._processes.add(name, shlex.split(command), self._job)

    def send(self, worker: str, task: Plain) -> None:
        """Write the task to the worker's input."""
        self._processes.send(worker, task)

    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """What workers have written; the command of one that has ended is run again."""
        events = self._processes.events(seconds)
        for event in events:
            if event.what == "gone":
                self.stop(event.worker)
        return events

    def stop(self, worker: str) -> None:
        """End a worker, and run its command again."""
        self._processes.stop([worker])
        self._add(self._commands.pop(worker))

    def close(self) -> None:
        """End all workers."""
        self._processes.close()
