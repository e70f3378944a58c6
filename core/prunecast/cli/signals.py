"""Signals that ask a process to end: a command ends as after Ctrl-C."""

import math
import signal
import time
from types import FrameType

REPEATED_SECONDS = 5.0
"""Time within which several signals are one: a terminal that closes sends two, one of them through its shell."""

_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")


class EndedBySignal(KeyboardInterrupt):
    """A signal asked this process to end. ``number`` is its number."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"ended by {signal.Signals(number).name}")


def end_on_signals() -> None:
    """Raise :class:`EndedBySignal` in the main thread when one of the signals arrives.

    A signal that is ignored stays ignored, so that a command under ``nohup`` survives its terminal.
    """
    raised = -math.inf

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        now = time.monotonic()
        if now - raised >= REPEATED_SECONDS:
            raised = now
            raise EndedBySignal(number)

    for name in _NAMES:
        number = getattr(signal, name, None)  # SIGHUP exists on Unix only, SIGBREAK on Windows only
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)
