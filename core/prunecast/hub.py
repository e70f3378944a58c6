"""The Hugging Face Hub: whether it can be reached, and why something of it is not available."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

from prunecast.errors import one_line

CONNECT_SECONDS = 5.0
"""Time in seconds for the first answer of the Hub. Its libraries would try again for half a minute each time."""

_PROBED_SECONDS = 60.0
"""Time in seconds until it is asked again."""


def unreachable() -> bool:
    """True if the Hub does not answer. False if offline mode is set, in which nothing is asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    return not _answers(constants.ENDPOINT, int(time.monotonic() / _PROBED_SECONDS))


@contextmanager
def hub_or_its_cache() -> Iterator[None]:
    """Inside, the libraries of the Hub use only its cache on this machine if the Hub does not answer."""
    with only_its_cache() if unreachable() else nullcontext():
        yield


@contextmanager
def only_its_cache() -> Iterator[None]:
    """Inside, the libraries of the Hub use only its cache on this machine, and ask no network."""
    from huggingface_hub import constants

    # datasets copies the constant when it is imported.
    holders: list[Any] = [constants, *filter(None, [sys.modules.get("datasets.config")])]
    before = [holder.HF_HUB_OFFLINE for holder in holders]
    for holder in holders:
        holder.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.HF_HUB_OFFLINE = value


def why_unavailable(error: Exception) -> str:
    """Reason for an error of the Hub's libraries, in one line."""
    from huggingface_hub import constants

    cause: BaseException | None = error
    while cause is not None:
        place = str(cause.filename) if isinstance(cause, OSError) and cause.filename else ""
        if place and os.path.abspath(place).startswith(os.path.abspath(constants.HF_HOME)):
            return f"{place}: {getattr(cause, 'strerror', None)}: set HF_HOME to a folder that can be written"
        cause = cause.__cause__ or cause.__context__
    if unreachable():
        return f"{constants.ENDPOINT} does not answer, and its cache on this machine does not have it"
    return one_line(error)


@cache
def _answers(endpoint: str, when: int) -> bool:
    """True if an HTTP response of any kind comes. ``when`` is the time of the question, in units of its validity."""
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=CONNECT_SECONDS)
    # Names that are not resolved, refused connections, proxies and certificates raise errors of many classes.
    except Exception:  # noqa: BLE001
        return False
    return True
