"""Options of the commands that build something from a recorded spec."""

from collections.abc import Callable

import click


def permission_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--trust-remote-code`` and ``--allow-code``, as the arguments ``remote_code`` and ``code``."""
    allow = click.option(
        "--allow-code",
        "code",
        multiple=True,
        metavar="NAME",
        help="Code that the recorded spec names and may execute, e.g. the import path of a class; repeatable.",
    )
    trust = click.option(
        "--trust-remote-code",
        "remote_code",
        is_flag=True,
        help="Let the recorded spec execute code that comes with its model, if it asks for that.",
    )
    return trust(allow(command))
