"""Silence of transformers while it makes configs and models."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence warnings of transformers and the Hub, and their progress bars unless stderr is a terminal."""
    from transformers.utils import logging

    chatter: Any = logging
    verbosity = chatter.get_verbosity()
    chatter.set_verbosity_error()
    try:
        # Some of the progress bars cannot be switched off.
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            yield
    finally:
        chatter.set_verbosity(verbosity)
