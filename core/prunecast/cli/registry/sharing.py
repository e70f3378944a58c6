"""Commands of ``prunecast registry`` that share registries: merge, export, import, publish and pull."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from prunecast.cli.output import echo, echo_lines, registry_option, rows_option, show_rows
from prunecast.text import counted, text

if TYPE_CHECKING:
    from prunecast.architecture.formats import Imported
    from prunecast.registry.sharing.records import Absorbed

FORMATS = ("evopress", "darwinlm", "puzzletron", "text")

theirs_option = click.option(
    "--theirs", is_flag=True, help="In a conflict, take the incoming number (theirs) instead of the present one (ours)."
)


@click.command()
@click.argument("other", type=click.Path())
@theirs_option
@registry_option
@rows_option
def merge(other: str, theirs: bool, registry_path: str, form: str | None) -> None:
    """Merge the registry OTHER into this one; list numbers that differ by more than their standard error."""
    from pathlib import Path

    from prunecast.registry import Registry
    from prunecast.registry.sharing.merge import merge

    with Registry.open(registry_path) as opened:
        absorbed = merge(opened, Path(other), theirs)
    _show_absorbed(absorbed, form)


@click.command()
@click.argument("file", type=click.Path())
@registry_option
def export(file: str, registry_path: str) -> None:
    """Write the whole registry to FILE, as JSON lines (.jsonl) or Parquet (.parquet)."""
    from pathlib import Path

    from prunecast.registry import Registry
    from prunecast.registry.sharing.files import write_records
    from prunecast.registry.sharing.records import records_of

    with Registry.open(registry_path, readonly=True) as opened:
        count = write_records(records_of(opened), Path(file))
    echo(f"{file}: {counted(count, 'record')}", err=True)


@click.command("import")
@click.argument("file", type=click.Path())
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="Read the configuration of another tool and print its architectures; without it FILE is from export.",
)
@click.option("--model", help="Model of the configuration: one in the registry, or a source as in a spec.")
@click.option("--cols-removed-attn", metavar="N,N,...", help="DarwinLM: columns removed at each level of attention.")
@click.option("--cols-removed-mlp", metavar="N,N,...", help="DarwinLM: columns removed at each level of the MLP.")
@theirs_option
@registry_option
@rows_option
def import_(
    file: str,
    kind: str | None,
    model: str | None,
    cols_removed_attn: str | None,
    cols_removed_mlp: str | None,
    theirs: bool,
    registry_path: str,
    form: str | None,
) -> None:
    """Import FILE: evaluations written by export or, with --format, architectures of another tool.

    The latter are printed one per line, as in the file that collect.architectures of a spec names.
    """
    from pathlib import Path

    from prunecast.registry import Registry
    from prunecast.registry.sharing.files import read_records
    from prunecast.registry.sharing.records import absorb

    if kind is None:
        with Registry.open(registry_path) as opened:
            absorbed = absorb(opened, read_records(Path(file)), theirs)
        _show_absorbed(absorbed, form)
        return
    if model is None:
        raise click.UsageError(f"--format {kind} needs --model: the model of the configuration")
    imported = _imported(kind, file, model, registry_path, _levels(cols_removed_attn), _levels(cols_removed_mlp))
    for note in imported.notes:
        echo(f"note: {note}", err=True)
    if form is None:
        echo_lines("\n".join(map(str, imported.architectures)))
    else:
        rows = [{"architecture": str(each), "key": each.key} for each in imported.architectures]
        show_rows(rows, form, "no architectures")


@click.command()
@click.argument("destination")
@click.option("--private", is_flag=True, help="Create the data set as private, if it does not exist.")
@registry_option
def publish(destination: str, private: bool, registry_path: str) -> None:
    """Publish the registry as the Hub data set DESTINATION (owner/name), or to a folder (./name)."""
    from prunecast.registry import Registry
    from prunecast.registry.sharing.publish import publish

    with Registry.open(registry_path, readonly=True) as opened:
        echo(publish(opened, destination, private))


@click.command()
@click.argument("source")
@click.option("--revision", help="Branch, tag or commit of the data set.")
@theirs_option
@registry_option
@rows_option
def pull(source: str, revision: str | None, theirs: bool, registry_path: str, form: str | None) -> None:
    """Merge a published registry into this one: the Hub data set SOURCE (owner/name), or a folder (./name)."""
    from prunecast.registry import Registry
    from prunecast.registry.sharing.publish import pull

    with Registry.open(registry_path) as opened:
        absorbed = pull(opened, source, theirs, revision)
    _show_absorbed(absorbed, form)


def _show_absorbed(absorbed: "Absorbed", form: str | None) -> None:
    kept = "theirs taken" if absorbed.replaced else "ours kept"
    echo(
        f"new: {counted(absorbed.evaluations, 'evaluation')} and {counted(absorbed.runs, 'run')}; here already: "
        f"{counted(absorbed.known, 'evaluation')}; {counted(len(absorbed.conflicts), 'conflicting number')}"
        f"{f', {kept}' if absorbed.conflicts else ''}",
        err=True,
    )
    if absorbed.steps:
        echo(f"new: the local sensitivities of {counted(absorbed.steps, 'architecture')}", err=True)
    rows: list[dict[str, Any]] = [asdict(conflict) for conflict in absorbed.conflicts]
    order = ("model", "metric", "ours", "theirs", "standard_error", "architecture")
    show_rows(rows, form, "", lambda row: {name: text(row[name]) for name in order}) if rows or form else None


def _imported(kind: str, file: str, model: str, registry_path: str, attention: list[int], mlp: list[int]) -> "Imported":
    from pathlib import Path

    from prunecast.architecture import formats

    path, shape = Path(file), _shape_of(model, registry_path)
    if kind == "darwinlm":
        if not attention or not mlp:
            raise click.UsageError(
                "--format darwinlm needs --cols-removed-attn and --cols-removed-mlp: the levels of its database"
            )
        return formats.from_darwinlm(path, shape, attention, mlp)
    readers = {"evopress": formats.from_evopress, "puzzletron": formats.from_puzzletron, "text": formats.from_text}
    return readers[kind](path, shape)


def _shape_of(model: str, registry_path: str) -> Any:
    """Shape of a model in the registry, else of any source by its config."""
    from pathlib import Path

    from prunecast.models.described import described
    from prunecast.models.families.sizes import shape_of
    from prunecast.models.source import resolve_source
    from prunecast.plugins.families import families_of
    from prunecast.plugins.host import PluginHost
    from prunecast.registry import Registry
    from prunecast.registry.queries.series import find_shape

    if Path(registry_path).is_file():
        with Registry.open(registry_path, readonly=True) as opened:
            known = find_shape(opened, model)
        if known is not None:
            return known
    return shape_of(*described(resolve_source(model), families_of(PluginHost.discover())))


def _levels(levels: str | None) -> list[int]:
    try:
        return [int(number) for number in (levels or "").replace(",", " ").split()]
    except ValueError as error:
        raise click.BadParameter(
            f"{levels!r}: write whole numbers with commas, level 0 first, e.g. 0,64,128"
        ) from error
