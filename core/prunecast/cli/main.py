"""The ``prunecast`` command group. It alone turns errors into messages and exit codes."""

import os
import sys
from contextlib import suppress
from typing import Any

import click

from prunecast.cli.doctor import doctor
from prunecast.cli.examples import add_examples
from prunecast.cli.export import export
from prunecast.cli.families import families
from prunecast.cli.init import init
from prunecast.cli.output import offline_option
from prunecast.cli.plugins import plugins
from prunecast.cli.predict import predict
from prunecast.cli.predictors import predictors
from prunecast.cli.registry.group import registry
from prunecast.cli.registry.upkeep import delete, gc, vacuum, verify
from prunecast.cli.report import report
from prunecast.cli.run import run
from prunecast.cli.runs import runs
from prunecast.cli.signals import EndedBySignal
from prunecast.cli.spec import spec
from prunecast.errors import PrunecastError, SpecError, resource_error
from prunecast.text import visible

HANDLED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes: an error the user can correct, a wrong command line, and an interruption by Ctrl-C."""


class _Interrupted(Exception):
    """A command was interrupted. Not a KeyboardInterrupt, for which click writes to stderr, which may be gone."""

    def __init__(self, code: int) -> None:
        self.code = code


class Commands(click.Group):
    """A group that reports errors of its commands in one line and returns an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and return its exit code.

        Errors that the user cannot correct propagate with their traceback.
        """
        try:
            result = super().main(*args, **kwargs)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except SpecError as error:
            return _fail("\n".join(map(visible, error.problems)), HANDLED)
        except PrunecastError as error:
            return _fail(visible(f"error: {error}"), HANDLED)
        except (_Interrupted, click.Abort) as error:
            return _fail(
                "interrupted: all measurements so far are kept; run the same command again to continue",
                error.code if isinstance(error, _Interrupted) else INTERRUPTED,
            )
        except (OSError, RuntimeError, MemoryError) as error:
            exhausted = resource_error(error)
            if exhausted is None:
                raise
            return _fail(f"error: {exhausted}", HANDLED)
        return result if isinstance(result, int) else 0

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an interruption leaves it with the exit code of its signal, 128 plus the signal's number."""
        try:
            return super().invoke(ctx)
        except EndedBySignal as ended:
            raise _Interrupted(128 + ended.number) from ended
        except KeyboardInterrupt as interrupted:
            with suppress(OSError):
                click.echo(err=True)  # a terminal has written ^C on the line
            raise _Interrupted(INTERRUPTED) from interrupted


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # the terminal may be gone
        click.secho(message, err=True, fg="red")
    return code


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="prunecast")
@offline_option
def cli() -> None:
    """Prune a causal language model to a budget, using an accuracy predictor to choose the size of every layer."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


for command in (init, doctor, run, spec, families, plugins, predictors, registry, predict, runs, export, report):
    cli.add_command(command)

for command in (verify, gc, vacuum, delete):
    registry.add_command(command)

add_examples(cli)
