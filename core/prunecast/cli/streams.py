"""Standard streams of the commands: they take any text, whatever they lead to."""

import io
import os
import sys

_STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


def prepare_streams() -> None:
    """Make stdout and stderr take any text.

    A character that the encoding of a stream does not have is printed as an escape such as ``\\u2019``, which loses
    nothing. A stream that is closed is replaced by the null device: otherwise a file that is opened later would get its
    descriptor, and with it all that C libraries print.
    """
    for name, mode in _STREAMS.items():
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
