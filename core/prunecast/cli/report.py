"""``prunecast report``."""

from typing import TYPE_CHECKING

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, json_option, print_json, registry_option
from prunecast.cli.permissions import permission_options
from prunecast.cli.plugins import plugin_dir_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("run", shell_complete=completion.runs)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False),
    default="report/{name}",
    show_default=True,
    help="Folder to write to; {name} is the run's name.",
)
@click.option("--overwrite", is_flag=True, help="Replace the report of another run.")
@click.option(
    "--as-recorded", is_flag=True, help="Do not compare model, data and code with what the run was made from."
)
@plugin_dir_option
@permission_options
@registry_option
@json_option
def report(
    run: str,
    folder: str,
    overwrite: bool,
    as_recorded: bool,
    plugin_dirs: "tuple[Path, ...]",
    remote_code: bool,
    code: tuple[str, ...],
    registry_path: str,
    as_json: bool,
) -> None:
    """Write RUN (number, name or key) as one HTML page and PNG pictures; no model is loaded.

    If the run's model, data or code have changed since, nothing is written. What is not on this machine, and code
    that its recorded spec names and you do not name again, is not compared.
    """
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"

    from prunecast.measure.identity import unchanged_at_hand
    from prunecast.measure.recorded import Permissions
    from prunecast.plugins.host import PluginHost
    from prunecast.registry import Registry
    from prunecast.report.page import write_report

    host, permissions = PluginHost.discover(plugin_dirs), Permissions(remote_code, frozenset(code))
    with Registry.open(registry_path, readonly=True) as registry:
        missing = [] if as_recorded else unchanged_at_hand(registry, registry.run(run), host, permissions)
        files = write_report(registry, run, folder, overwrite)
    if missing:
        echo(f"not compared with what the run was made from, as not at hand: {', '.join(missing)}", err=True)
    if as_json:
        print_json([str(file) for file in files])
    else:
        for file in files:
            echo(str(file))
