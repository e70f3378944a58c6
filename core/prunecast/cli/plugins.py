"""``prunecast plugins``."""

from typing import Any

import click

from prunecast.cli.output import json_option, print_json, print_rows, table

KINDS = ("space", "pruner", "evaluator", "predictor", "searcher")


@click.group()
def plugins() -> None:
    """What can be named in a spec."""


@plugins.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind.")
@json_option
def list_plugins(kind: str | None, as_json: bool) -> None:
    """List all plugins that are installed, and those that are broken."""
    from prunecast.plugins import PluginHost

    host = PluginHost.discover()
    registered = [found for each in ([kind] if kind else KINDS) for found in host.entries(each).values()]
    rows = [
        {
            "kind": found.kind,
            "name": found.entry.name,
            "distribution": f"{found.distribution} {found.version}",
            "summary": found.entry.summary,
            "reference": found.entry.reference,
        }
        for found in registered
    ]
    print_rows(rows, as_json, empty="no plugin is installed: reinstall prunecast to get the bundled ones")


@plugins.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Needed if plugins of two kinds share the name.")
@json_option
def show(name: str, kind: str | None, as_json: bool) -> None:
    """Show the options of the plugin NAME."""
    import inspect

    from prunecast.errors import PluginError
    from prunecast.plugins import PluginHost, did_you_mean

    host = PluginHost.discover()
    kinds = [kind] if kind else KINDS
    found = [host.entries(each)[name] for each in kinds if name in host.entries(each)]
    if not found:
        known = [other for each in kinds for other in host.entries(each)]
        raise PluginError(f"no plugin is called {name!r}{did_you_mean(name, known)}")
    for registered in found:
        plugin = registered.load()
        schema = plugin.options_model.model_json_schema()
        if as_json:
            print_json({"kind": registered.kind, "name": name, "summary": registered.entry.summary, "options": schema})
            continue
        click.echo(f"{registered.kind} {name}, {registered.distribution} {registered.version}")
        click.echo(f"{inspect.getdoc(plugin)}\n")
        rows = [[option, *_described(field)] for option, field in schema.get("properties", {}).items()]
        click.echo(table(["option", "type", "default", "meaning"], rows) if rows else "no options")


def _described(field: dict[str, Any]) -> tuple[str, str, str]:
    import json

    kind = field.get("type") or field.get("$ref", "").rsplit("/", 1)[-1]
    kind = kind or " or ".join(json.dumps(value) for value in field.get("enum", ()))
    default = json.dumps(field["default"]) if "default" in field else "required"
    return str(kind), default if len(default) < 60 else "...", field.get("description", "")
