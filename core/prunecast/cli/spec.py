"""``prunecast spec``."""

from pathlib import Path

import click

from prunecast.cli.output import json_option, print_json
from prunecast.cli.plugins import plugin_dir_option


@click.group()
def spec() -> None:
    """Check specs, and describe them to editors."""


@spec.command()
@click.argument("spec_name", metavar="SPEC")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the spec first.")
@plugin_dir_option
@json_option
def validate(spec_name: str, overrides: tuple[str, ...], plugin_dirs: tuple[Path, ...], as_json: bool) -> None:
    """Check SPEC down into every plugin's options; all problems are told at once."""
    import json

    from prunecast.plugins.host import PluginHost
    from prunecast.spec.load import load_spec

    loaded = load_spec(spec_name, PluginHost.discover(plugin_dirs), overrides)
    if as_json:
        print_json(json.loads(loaded.to_json()))
    else:
        click.echo(f"{loaded.name} is valid (key {loaded.key})")


@spec.command()
def schema() -> None:
    """Print the JSON schema of specs, with the options of every installed plugin."""
    from prunecast.plugins.host import PluginHost
    from prunecast.spec.schema import json_schema

    print_json(json_schema(PluginHost.discover()))
