"""Calls into other people's code: whatever goes wrong in them is told in one line that says whose it is.

A call may raise anything, call ``sys.exit``, print to stdout or never come back. What Python can interrupt is
interrupted: a call that takes too long is ended by a signal, on Unix, in the main thread, and between two bytecodes.
Code in C that does not return, a thread the plugin has started, and what it prints past ``sys.stdout`` are out of
reach.
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
"""Environment variable: seconds any call into a plugin may take; 0 for as long as it likes."""

LOAD_SECONDS = 60.0
"""How long importing a plugin, calling one of its hooks or making an instance may take."""

CALL_SECONDS = 4 * 3600.0
"""How long any other call may take. Generous: a search or an evaluation of a large model takes its time."""

TRACE = "PRUNECAST_TRACE"
"""Environment variable: 1 prints hook calls with arguments and times, and tracebacks of plugins that fail, on
stderr."""


def tracing() -> bool:
    """Whether :data:`TRACE` is set."""
    return os.environ.get(TRACE, "") not in ("", "0")


@contextmanager
def isolated(
    owner: str,
    doing: str,
    seconds: float = CALL_SECONDS,
    raises: type[PrunecastError] = PluginError,
) -> Iterator[None]:
    """Whatever goes wrong inside becomes one error that names the owner; what is printed goes to stderr.

    Args:
        owner: whose code is called, e.g. ``predictor 'ridge' of acme-ridge 1.0``.
        doing: what it was asked to do, e.g. ``fit``.
        seconds: how long it may take, unless :data:`LIMIT` says otherwise.
        raises: what to raise; errors meant for the user are left as they are.
    """
    limit = float(os.environ.get(LIMIT) or seconds)
    try:
        with redirect_stdout(_ToldOnStderr(owner)), _time_limit(limit) as time_up:
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
    """What went wrong, in one line."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ImportError | PrunecastError) else f"{type(error).__name__}: {message}"


class _TimeUp(BaseException):
    """No Exception, so that a plugin that catches those does not catch this."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[_TimeUp]:
    """Raise the yielded exception inside once the time is up, where a signal can; an earlier alarm comes first."""
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


class _ToldOnStderr(io.TextIOBase):
    """A stdout that passes everything on to stderr, and says once whose it is: stdout carries the data of a command."""

    def __init__(self, owner: str) -> None:
        self._owner, self._told = owner, False

    def write(self, text: str) -> int:
        """Pass it on."""
        if not self._told:
            self._told = True
            sys.stderr.write(f"warning: {self._owner} prints to stdout, which carries data; here it is instead:\n")
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush stderr."""
        sys.stderr.flush()
