"""``prunecast doctor``."""

from pathlib import Path

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, json_option, offline_option, print_json, registry_option
from prunecast.cli.plugins import plugin_dir_option


@click.command()
@click.argument("model", required=False, shell_complete=completion.files)
@plugin_dir_option
@offline_option
@registry_option
@json_option
def doctor(model: str | None, plugin_dirs: tuple[Path, ...], registry_path: str, as_json: bool) -> int:
    """Tell whether this machine is fit for a run, and with MODEL, whether that can be pruned here.

    One line for each thing: ok, warning or broken. Exits with 1 if anything is broken. Nothing is written, downloaded
    or converted, and no weight is read.
    """
    from prunecast.doctor.doctor import examine
    from prunecast.plugins.host import PluginHost

    found = []
    for finding in examine(PluginHost.discover(plugin_dirs), Path(registry_path), model):
        found.append(finding)
        if not as_json:
            echo(f"{finding.state:<8} {finding.subject:<16} {finding.text}")
    if as_json:
        print_json([finding.to_json() for finding in found])
    return 1 if any(finding.state == "broken" for finding in found) else 0
