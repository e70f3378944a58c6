"""``prunecast plugins``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, echo_lines, json_option, print_json, print_rows, table
from prunecast.text import counted

if TYPE_CHECKING:
    from prunecast.plugins.host import PluginHost, Registered

KINDS = ("family", "space", "pruner", "evaluator", "predictor", "searcher", "exporter", "executor")

Row = dict[str, str]


plugin_dir_option = click.option(
    "--plugin-dir",
    "plugin_dirs",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Python file, or folder of Python files, with plugins that are not installed; repeatable.",
)


@click.group()
def plugins() -> None:
    """List, show, create and check the plugins that a spec can name."""


@plugins.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind.")
@click.option("--all", "everything", is_flag=True, help="Include broken and disabled plugins.")
@plugin_dir_option
@json_option
def list_plugins(kind: str | None, everything: bool, plugin_dirs: tuple[Path, ...], as_json: bool) -> None:
    """List the plugins that are installed."""
    from prunecast.plugins.host import PluginHost

    host = PluginHost.discover(plugin_dirs)
    rows = [row for each in ([kind] if kind else KINDS) for row in _usable(host, each)]
    rows += _unusable(host) if everything else []
    print_rows(rows, as_json, empty="no plugin is installed: reinstall prunecast to get the bundled ones")


def _usable(host: "PluginHost", kind: str) -> Iterator[Row]:
    for name, found in host.provided(kind).items():
        for registered in found:
            others = [str(other.origin) for other in found if other is not registered]
            yield {
                "kind": kind,
                "name": name,
                "distribution": registered.distribution,
                "version": registered.version,
                "state": f"clashes with {', '.join(others)}" if others else "ok",
                "summary": registered.entry.summary,
                "reference": registered.entry.reference,
            }


def _unusable(host: "PluginHost") -> Iterator[Row]:
    for each in host.unusable.values():
        row = {"kind": "", "name": each.name, "distribution": each.origin.distribution, "version": each.origin.version}
        yield {**row, "state": each.state, "summary": each.reason, "reference": ""}


@plugins.command()
@click.argument("name", shell_complete=completion.plugins())
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind.")
@plugin_dir_option
@json_option
def show(name: str, kind: str | None, plugin_dirs: tuple[Path, ...], as_json: bool) -> None:
    """Show the options of the plugin NAME; of a family, its description."""
    from prunecast.plugins.host import FAMILY, PluginHost

    for registered in _named(PluginHost.discover(plugin_dirs), name, kind):
        content = _description if registered.kind == FAMILY else _options
        if not as_json:
            echo(f"{registered.kind} {name}, {registered.origin}")
            echo_lines(content(registered)[1])
            continue
        summary, reference = registered.entry.summary, registered.entry.reference
        about = {"kind": registered.kind, "name": name, "summary": summary, "reference": reference}
        owner = {"distribution": registered.distribution, "version": registered.version}
        print_json({**about, **owner, **content(registered)[0]})


def _options(registered: "Registered") -> tuple[dict[str, Any], str]:
    """Options of a plugin: for JSON, and as text."""
    import inspect

    from prunecast.spec.options import options_of

    plugin = registered.load()
    rows = [list(option) for option in options_of(plugin.options_model)]
    shown = table(["option", "type", "default", "meaning"], rows) if rows else "no options"
    return {"options": plugin.options_model.model_json_schema()}, f"{inspect.getdoc(plugin)}\n\n{shown}"


def _description(registered: "Registered") -> tuple[dict[str, Any], str]:
    """Description of a family: for JSON, with its file, and as text."""
    from prunecast.plugins.families import family_of, file_of, flow, meanings, plain

    content = plain(family_of(registered))
    rows = [[field, flow(content[field]), meaning] for field, meaning in meanings().items() if field != "variants"]
    shown = [f"{registered.entry.summary}\n", table(["field", "value", "meaning"], rows)]
    if variants := content["variants"]:
        cells = [[flow(variant["when"]), flow(variant["change"])] for variant in variants]
        shown += ["", table(["where the config has", "differs"], cells)]
    return {"file": str(file_of(registered)), "description": content}, "\n".join(shown)


def _named(host: "PluginHost", name: str, kind: str | None) -> "list[Registered]":
    """Plugins of a name, one for each kind that has it, or the one of ``kind``.

    Raises PluginError if there is none, or if two distributions provide one.
    """
    kinds = [kind] if kind else [each for each in KINDS if name in host.provided(each)]
    if kinds:
        return [host.find(each, name) for each in kinds]
    from prunecast.errors import PluginError, did_you_mean

    known = [other for each in KINDS for other in host.entries(each)]
    raise PluginError(f"no plugin is called {name!r}{did_you_mean(name, known)}")


@plugins.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="Kind of the plugin.")
@click.option(
    "--into",
    "folder",
    default=Path(),
    type=click.Path(path_type=Path),
    help="Folder to write to; by default the current one.",
)
def new(name: str, kind: str, folder: Path) -> None:
    """Write a package for a new plugin, called NAME in specs."""
    from prunecast.cli.scaffold import write_package
    from prunecast.errors import PluginError
    from prunecast.plugins.host import PluginHost

    if there := PluginHost.discover().provided(kind).get(name):
        raise PluginError(f"{there[0]} is installed, and a second one could not be told from it: choose another name")
    written = write_package(kind, name, folder)
    for file in written:
        echo(str(folder / file))
    package = folder / written[0].parent
    echo(f"next: cd {package} && python -m pytest && pip install . && prunecast plugins show {name}", err=True)


@plugins.command()
@click.argument("name", metavar="NAME|DISTRIBUTION", shell_complete=completion.plugins())
@click.option("--kind", type=click.Choice(KINDS), help="Only plugins of this kind.")
@click.option("--name", "names", multiple=True, help="Only the plugin of this name; may be given several times.")
@plugin_dir_option
@json_option
def check(name: str, kind: str | None, names: tuple[str, ...], plugin_dirs: tuple[Path, ...], as_json: bool) -> int:
    """Run all checks on the plugin NAME, or on the plugins of a DISTRIBUTION; exit code 1 if one fails."""
    from prunecast.plugins.host import PluginHost

    found = _checked(PluginHost.discover(plugin_dirs), name, kind, names)
    rows = [row for registered in found for row in _verdicts(registered)]
    print_rows(rows, as_json, empty="")
    broken = sum(row["outcome"] == "broken" for row in rows)
    echo(f"{counted(len(found), 'plugin')}, {counted(len(rows), 'check')}, {broken} broken", err=True)
    return 1 if broken else 0


def _checked(host: "PluginHost", name: str, kind: str | None, names: Sequence[str]) -> "list[Registered]":
    """Plugins of a name, one for each kind that has it, else those of a distribution.

    Raises PluginError if there is neither, with the reason if the plugin is broken.
    """
    kinds = [kind] if kind else KINDS
    if not names and (called := [each for each in kinds if name in host.provided(each)]):
        return [host.find(each, name) for each in called]
    provided = [each for kind in kinds for found in host.provided(kind).values() for each in found]
    found = [each for each in provided if each.distribution == name and (not names or each.entry.name in names)]
    if found:
        return found
    from prunecast.errors import PluginError, did_you_mean

    for each in host.unusable.values():
        if name in (each.name, each.origin.distribution):
            raise PluginError(f"plugin {each.name!r} of {each.origin} {each.reason}")
    known = dict.fromkeys([*(each.entry.name for each in provided), *(each.distribution for each in provided)])
    raise PluginError(f"no such plugin, and none of a distribution {name!r}{did_you_mean(name, known)}")


def _verdicts(registered: "Registered") -> Iterator[Row]:
    from prunecast.plugins.host import FAMILY
    from prunecast.testing import SUITES

    trial, suite = registered.entry.trial, SUITES[registered.kind]
    tested = registered.entry if registered.kind == FAMILY else registered.load()
    subject = suite.subject(tested, trial.options, trial.requires)
    for verdict in suite.verdicts(subject, trial.expected_failures):
        plugin = {"kind": registered.kind, "name": registered.entry.name}
        yield {**plugin, "check": verdict.check, "outcome": verdict.outcome, "reason": verdict.reason}


@plugins.command()
def schema() -> None:
    """Print the JSON schema of the file of a family, with which editors complete and check it."""
    from prunecast.plugins.families import json_schema

    print_json(json_schema())


@plugins.command()
def reference() -> None:
    """Print the contract and all installed plugins as Markdown."""
    from prunecast.cli.plugins_reference import reference as markdown
    from prunecast.plugins.host import PluginHost

    echo_lines(markdown(PluginHost.discover()).removesuffix("\n"))
