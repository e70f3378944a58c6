"""Isolation of calls into plugin code: any failure becomes a one-line error that names the plugin.

A call may raise any exception, call ``sys.exit``, print to stdout or never return. A call that exceeds its time limit
is interrupted by a signal: on Unix only, in the main thread, and between two bytecodes. C code that does not return,
threads started by the plugin, and output that bypasses ``sys.stdout`` cannot be controlled.
"""

import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType

from prunecast.errors import PluginError, PrunecastError

LIMIT = "PRUNECAST_PLUGIN_SECONDS"
"""Environment variable: time limit in seconds of every call into a plugin; 0 for no limit."""

LOAD_SECONDS = 60.0
"""Time limit in seconds of importing a plugin, calling one of its hooks, or constructing an instance."""

CALL_SECONDS = 4 * 3600.0
"""Time limit in seconds of any other call; generous, because a search or an evaluation of a large model is slow."""

TRACE = "PRUNECAST_TRACE"
"""Environment variable: 1 prints hook calls with arguments and times, and tracebacks of failing plugins, to stderr."""


def tracing() -> bool:
    """True if :data:`TRACE` is set."""
    return os.environ.get(TRACE, "") not in ("", "0")


@contextmanager
def isolated(
    owner: str,
    doing: str,
    seconds: float = CALL_SECONDS,
    raises: type[PrunecastError] = PluginError,
) -> Iterator[None]:
    """Turn any failure inside into one error that names the owner, and redirect stdout to stderr.

    Args:
        owner: description of the plugin, e.g. ``predictor 'ridge' of acme-ridge 1.0``.
        doing: description of the call, e.g. ``fit``.
        seconds: time limit in seconds, unless :data:`LIMIT` sets another one.
        raises: type of the error to raise. A PrunecastError raised inside is passed on unchanged.
    """
    limit = float(os.environ.get(LIMIT) or seconds)
    try:
        with redirect_stdout(_StdoutToStderr(owner)), _time_limit(limit) as time_up:
            yield
    except _TimeUp as ended:
        if ended is not time_up:
            raise
        raise raises(
            f"{owner} did not return from {doing} within {limit:g} s: set {LIMIT} for more, 0 for no limit"
        ) from ended
    except PrunecastError:
        raise
    except (Exception, SystemExit) as error:
        if tracing():
            traceback.print_exception(error, file=sys.stderr)
        raise raises(f"{owner} failed in {doing}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Message of an error in one line, with its type unless it is an ImportError or PrunecastError."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ImportError | PrunecastError) else f"{type(error).__name__}: {message}"


class _TimeUp(BaseException):
    """Time limit exceeded. A BaseException, so that ``except Exception`` in a plugin does not catch it."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[_TimeUp]:
    """Raise the yielded exception inside after ``seconds``, where a signal can; an earlier alarm has priority."""
    time_up = _TimeUp()
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield time_up
        return
    before = signal.getitimer(signal.ITIMER_REAL)[0]
    if not seconds or 0 < before <= seconds:
        yield time_up
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise time_up

    handler, start = signal.signal(signal.SIGALRM, end), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield time_up
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if before:
            signal.setitimer(signal.ITIMER_REAL, max(before - (time.monotonic() - start), 1e-3))


class _StdoutToStderr(io.TextIOBase):
    """Replacement of stdout that writes to stderr, after one warning that names the plugin."""

    def __init__(self, owner: str) -> None:
        self._owner, self._warned = owner, False

    def write(self, text: str) -> int:
        """Write to stderr, with a warning before the first text."""
        if not self._warned:
            self._warned = True
            sys.stderr.write(
                f"warning: {self._owner} prints to stdout, which is reserved for data; its output follows:\n"
            )
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush stderr."""
        sys.stderr.flush()
