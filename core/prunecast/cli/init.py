"""``prunecast init``."""

import math
from pathlib import Path
from typing import Any

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, echo_lines, offline_option
from prunecast.cli.plugins import plugin_dir_option


class _Finite(click.FloatRange):
    """A number of a range; neither infinity nor what is no number, which no comparison keeps out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Fails as click does where it is none of the range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


@click.command()
@click.argument("model", shell_complete=completion.files)
@click.option(
    "--minutes",
    type=_Finite(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Time that the run may take on this machine.",
)
@click.option(
    "--budget",
    type=_Finite(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Share of the parameters to keep.",
)
@click.option(
    "--calibration",
    multiple=True,
    metavar="TEXT",
    help="Data set or file to rank units on; repeatable. By default what is at hand.",
)
@click.option(
    "--evaluate",
    multiple=True,
    metavar="TEXT",
    help="Data set or file whose validation split is searched by and whose test split is reported on; repeatable. By "
    "default what is at hand.",
)
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    help="File to write the spec to; by default, or as -, it is printed.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@plugin_dir_option
@offline_option
def init(
    model: str,
    minutes: float,
    budget: float,
    calibration: tuple[str, ...],
    evaluate: tuple[str, ...],
    output: str,
    force: bool,
    plugin_dirs: tuple[Path, ...],
) -> None:
    """Write a first spec for MODEL: an alias, a folder, a .gguf file or a Hub id.

    The spec is YAML with comments. It is valid, and fits the model, the memory, the device, the data at hand and the
    time. Data sets are looked for in PRUNECAST_DATA and in the cache of the Hub; no weight is read, and no data set is
    downloaded unless it is named.
    """
    file = None if output == "-" else Path(output)
    if file is not None:
        _check_place(file, force)

    from prunecast.first_spec.first_spec import first_spec
    from prunecast.first_spec.write import Wishes, with_free_name
    from prunecast.owned.files import written_whole
    from prunecast.plugins.host import PluginHost

    wishes = with_free_name(Wishes(model, minutes, budget, Path() if file is None else file.parent), file)
    found = first_spec(wishes, PluginHost.discover(plugin_dirs), calibration, evaluate)
    if file is None:
        echo_lines(found.text, nl=False)
    else:
        with written_whole(file) as unfinished:
            unfinished.write_text(found.text, encoding="utf-8")
    for note in found.notes:
        echo(note, err=True)
    if file is not None:
        echo(f"wrote {file}; run it with: prunecast run {file}", err=True)


def _check_place(file: Path, force: bool) -> None:
    """Raise SpecError if the file is there and may not be replaced, or cannot be there."""
    from prunecast.errors import SpecError

    if file.is_dir():
        raise SpecError([f"{file}: is a folder; name a file in it with --output"])
    if file.exists() and not force:
        raise SpecError([f"{file}: exists; name another file with --output, or replace it with --force"])
    if not file.parent.is_dir():
        raise SpecError([f"{file}: there is no folder {file.parent}; make it first"])
