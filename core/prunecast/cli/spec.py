"""``prunecast spec``."""

from pathlib import Path

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, json_option, print_json
from prunecast.cli.plugins import plugin_dir_option


@click.group()
def spec() -> None:
    """Validate specs, and print their JSON schema."""


@spec.command()
@click.argument("spec_name", metavar="SPEC", shell_complete=completion.specs)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the spec, e.g. budget.parameters=0.7; repeatable.",
)
@plugin_dir_option
@json_option
def validate(spec_name: str, overrides: tuple[str, ...], plugin_dirs: tuple[Path, ...], as_json: bool) -> None:
    """Validate SPEC, including the options of its plugins; all problems are reported at once.

    If the model is a folder, or in the Hub's cache on this machine, the space and the budget have to fit its config.
    """
    import json
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"

    from prunecast.plugins.host import PluginHost
    from prunecast.run.validate import check_against_config
    from prunecast.spec.load import load_spec

    host = PluginHost.discover(plugin_dirs)
    loaded = load_spec(spec_name, host, overrides)
    note = check_against_config(loaded, host)
    if as_json:
        print_json(json.loads(loaded.to_json()))
    else:
        echo(f"{loaded.name} is valid (key {loaded.key})")
    if note:
        echo(note, err=True)


@spec.command()
def schema() -> None:
    """Print the JSON schema of specs, with the options of every installed plugin."""
    from prunecast.plugins.host import PluginHost
    from prunecast.spec.schema import json_schema

    print_json(json_schema(PluginHost.discover()))
