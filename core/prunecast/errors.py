"""Every error prunecast raises on purpose.

A message is one line: what is wrong, where, what would be right, what to do next. The command line prints
it and exits with 1; anything else that escapes is a bug and keeps its traceback.
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class PrunecastError(Exception):
    """Base of all errors that are meant for the user."""


class SpecError(PrunecastError, ValueError):
    """A spec is wrong.

    Attributes:
        problems: one message a problem, each starting with ``file:line:column: path:``. Never empty.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class PluginError(PrunecastError):
    """A plugin is unknown, clashes with another, or broke its contract."""


class ModelError(PrunecastError):
    """A model cannot be found, read, described or held in memory."""


class DataError(PrunecastError):
    """A data set is missing or too small for what was asked of it."""


class BudgetError(PrunecastError, ValueError):
    """No architecture of the search space meets the budget."""


class EvaluationError(PrunecastError):
    """An evaluator could not produce a usable number."""


class RecoveryError(PrunecastError):
    """A pruned model could not be trained: something it needs is missing, or the training diverged."""


class RegistryError(PrunecastError):
    """The registry file cannot be opened, trusted or written."""


class ExportError(PrunecastError):
    """A model could not be written, or what was written is not what was measured."""


class ResourceError(PrunecastError):
    """The machine has no disk space or no memory left."""


class ConfigurationError(PrunecastError):
    """A file of architectures, or of another tool's configuration, cannot be read as architectures of the model."""


def one_line(error: Exception) -> str:
    """First line of an error's message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Tail of a message about an unknown name: the nearest known one if any is near, and all of them."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{guess}; available: {', '.join(known) or 'none, no plugin provides one'}"


_SAID_OF_MEMORY = ("out of memory", "DefaultCPUAllocator", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the processor, has no memory left."""
    # torch has an exception of its own for that, and does not raise it on a processor nor for every accelerator.
    said = isinstance(error, RuntimeError) and any(part in str(error) for part in _SAID_OF_MEMORY)
    return said or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def resource_error(error: Exception) -> ResourceError | None:
    """The error as a full disk or a lack of memory, in one line; None if it is anything else."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ResourceError(f"the disk is full ({error.filename or 'while writing'}): free some space, then run again")
    if is_out_of_memory(error):
        return ResourceError(
            f"out of memory ({one_line(error)}): free some, or choose a smaller model or model.dtype, then run again"
        )
    return None
