"""Errors that prunecast raises for users.

A message is one line: the problem, its place, what would be right, and what to do. The command line prints the message
and exits with 1. Any other exception that reaches the user is a bug and keeps its traceback.
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import takewhile

_MEMORY_MESSAGES = ("out of memory", "DefaultCPUAllocator", "Cannot allocate memory")
"""Parts of RuntimeError messages of torch that report a lack of memory."""


class PrunecastError(Exception):
    """Base class of all errors for users."""


class SpecError(PrunecastError, ValueError):
    """A spec is invalid.

    Attributes:
        problems: one message per problem, each starting with ``file:line:column: path:``. Never empty.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class PluginError(PrunecastError):
    """A plugin is unknown, conflicts with another, or violates its interface."""


class ModelError(PrunecastError):
    """A model cannot be found, read, described or held in memory."""


class DataError(PrunecastError):
    """A data set is missing, unreadable, or too small for the request."""


class BudgetError(PrunecastError, ValueError):
    """No architecture of the search space meets the budget."""


class EvaluationError(PrunecastError):
    """An evaluator did not produce a usable metric."""


class RecoveryError(PrunecastError):
    """A pruned model could not be trained: a requirement is missing, or the training diverged."""


class RegistryError(PrunecastError):
    """The registry file cannot be opened or written, or its content is not valid."""


class ChangedError(PrunecastError):
    """The model, data or code that a run was made from are not the same any more."""


class ExportError(PrunecastError):
    """A model could not be written, or the written model differs from the measured one."""


class EngineMissingError(ExportError):
    """An engine is not installed, so that what was written for it cannot be verified."""


class ExecutorError(PrunecastError):
    """Workers cannot be had, do not fit the run, or are lost faster than they measure."""


class ResourceError(PrunecastError):
    """The machine has no disk space or no memory left."""


class ConfigurationError(PrunecastError):
    """A file of architectures, or of another tool's configuration, cannot be read as architectures of the model."""


def one_line(error: Exception) -> str:
    """First line of an error's message, or the name of its class if the message is empty.

    A line that ends with a colon is a heading, so that the line under it is part of the message.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    headings = len(list(takewhile(lambda line: line.endswith(":"), lines)))
    return " ".join(lines[: headings + 1]) or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: the closest known name, if any is similar, and all known names."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{guess}; available: {', '.join(known) or 'none, no plugin provides one'}"


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error reports that an accelerator or the host has run out of memory."""
    # torch.OutOfMemoryError is not raised on CPUs nor by every accelerator, so the message is checked instead.
    reported = isinstance(error, RuntimeError) and any(part in str(error) for part in _MEMORY_MESSAGES)
    return reported or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def resource_error(error: Exception) -> ResourceError | None:
    """One-line error for a full disk or a lack of memory; None if ``error`` is neither."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ResourceError(f"the disk is full ({error.filename or 'while writing'}): free some space, then run again")
    if is_out_of_memory(error):
        return ResourceError(
            f"out of memory ({one_line(error)}): free memory, or choose a smaller model or model.dtype, then run again"
        )
    return None
