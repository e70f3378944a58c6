"""An executor: workers started by commands, such as ``ssh`` to other machines."""

import shlex
import sys
from collections.abc import Iterable

from pydantic import Field

from prunecast.plugins import Place, Plain, PluginOptions, ProcessExecutor


class CommandsOptions(PluginOptions):
    """Options of the executor."""

    commands: tuple[str, ...] = Field(
        (f"{shlex.quote(sys.executable)} -P -m prunecast.measure.worker",),
        min_length=1,
        description="Command of each worker, e.g. 'ssh gpu1 python -m prunecast.measure.worker'.",
    )


class Commands(ProcessExecutor[CommandsOptions]):
    """A worker for each command, whose standard streams are the worker's; a command that ends is run again."""

    options_model = CommandsOptions

    def places(self, job: Plain) -> Iterable[Place]:
        """A place for every command."""
        return [Place(shlex.split(command)) for command in self.options.commands]
