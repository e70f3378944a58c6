"""Maintenance: ``prunecast registry verify``, ``gc``, ``vacuum`` and ``delete``."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, json_option, print_json, registry_option
from prunecast.cli.permissions import permission_options
from prunecast.cli.plugins import plugin_dir_option
from prunecast.errors import RegistryError
from prunecast.text import counted, visible

if TYPE_CHECKING:
    from pathlib import Path

    from prunecast.measure.recorded import Permissions
    from prunecast.registry import Registry

MOST_LISTED = 50
"""Largest number of problems that are listed."""


@click.command()
@click.option("--remeasure", "count", type=click.IntRange(min=1), help="Number of evaluations to measure again.")
@click.option("--seed", default=0, show_default=True, help="Seed that draws the evaluations to measure again.")
@plugin_dir_option
@permission_options
@registry_option
@json_option
def verify(
    count: int | None,
    seed: int,
    plugin_dirs: "tuple[Path, ...]",
    remote_code: bool,
    code: tuple[str, ...],
    registry_path: str,
    as_json: bool,
) -> None:
    """Verify the registry: recompute its keys and counts, and check its references and numbers.

    With --remeasure, evaluations are repeated by the specs in the registry, which others may have written: code that a
    spec names is executed only if you name it again. Evaluations of a run that cannot be repeated are left out, and
    told at the end.
    """
    from itertools import islice

    from prunecast.measure.recorded import Permissions
    from prunecast.registry import Registry
    from prunecast.registry.upkeep.verify import problems

    permissions = Permissions(remote_code, frozenset(code))
    write = (lambda _: None) if as_json else echo
    again: list[str] = []
    left_out: list[str] = []
    with Registry.open(registry_path, readonly=True) as opened:
        found = list(islice(problems(opened), MOST_LISTED + 1))
        for line in found[:MOST_LISTED]:
            write(line)
        count = None if found else count
        for one in _measured_again(opened, count, seed, plugin_dirs, permissions, as_json):
            if isinstance(one, str):
                left_out.append(one)
                continue
            agrees, line = one
            write(line)
            again.append(line)
            found += [] if agrees else [line]
    if as_json:
        print_json({"problems": found[:MOST_LISTED], "measured_again": again, "left_out": left_out})
    _raise_if_any(registry_path, found, left_out)
    if not as_json:
        echo(f"{registry_path}: no problems found")


def _raise_if_any(registry_path: str, found: Sequence[str], left_out: Sequence[str]) -> None:
    """Raise RegistryError if there are problems, or if something could not be measured again."""
    number = f"more than {MOST_LISTED}" if len(found) > MOST_LISTED else str(len(found))
    advice = "restore a backup, or move the file away to start a new registry"
    told = [*([f"problems: {number}; {advice}"] if found else []), *left_out]
    if told:
        raise RegistryError(f"{registry_path}: {'; '.join(told)}")


def _measured_again(
    registry: "Registry",
    count: int | None,
    seed: int,
    plugin_dirs: "tuple[Path, ...]",
    permissions: "Permissions",
    quiet: bool,
) -> Iterator[tuple[bool, str] | str]:
    """For each number whether it agrees, and a line; for evaluations that are left out, a line alone."""
    if count is None:
        return
    from prunecast.measure.remeasure import LeftOut, remeasure
    from prunecast.plugins.host import PluginHost
    from prunecast.progress import Progress

    host = PluginHost.discover(plugin_dirs)
    for one in remeasure(registry, count, seed, host, permissions, Progress(quiet=quiet)):
        if isinstance(one, LeftOut):
            yield str(one)
            continue
        yield (
            one.agrees,
            f"{'' if one.agrees else 'beyond the tolerance: '}{one.metric} of evaluation {one.evaluation_id}: "
            f"{one.again:.6g} now, {one.recorded:.6g} recorded, {one.tolerance:.2g} allowed ({one.architecture})",
        )


@click.command()
@registry_option
@json_option
def gc(registry_path: str, as_json: bool) -> None:
    """Remove unreferenced rows (architectures, layers, models, plugins and others) and expired leases."""
    from prunecast.registry import Registry
    from prunecast.registry.upkeep.clean import remove_unreferenced

    with Registry.open(registry_path) as opened:
        removed = remove_unreferenced(opened)
    if as_json:
        print_json(removed)
    else:
        echo(", ".join(f"{table}: {count}" for table, count in removed.items() if count) or "nothing to remove")


@click.command()
@registry_option
@json_option
def vacuum(registry_path: str, as_json: bool) -> None:
    """Return unused pages of the registry file to the file system."""
    from prunecast.registry import Registry
    from prunecast.registry.upkeep.clean import vacuum as shrink

    with Registry.open(registry_path) as opened:
        before, after = shrink(opened)
    if as_json:
        print_json({"bytes_before": before, "bytes_after": after})
    else:
        echo(f"{before:,} bytes before, {after:,} after")


@click.command()
@click.argument("run", shell_complete=completion.runs)
@click.option(
    "--with-evaluations", is_flag=True, help="Delete its evaluations, too, except those that another run uses."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@registry_option
def delete(run: str, with_evaluations: bool, yes: bool, registry_path: str) -> None:
    """Delete RUN (number, name or first digits of its key). Its evaluations stay, because other runs may use them."""
    from prunecast.registry import Registry
    from prunecast.registry.upkeep.clean import delete_evaluations, delete_run

    with Registry.open(registry_path) as opened:
        record = opened.run(run)
        what = f"run {record.id} ({record.name}, {record.status}, started {record.started_utc})"
        also = " and the evaluations that only it uses" if with_evaluations else ""
        if not yes and not click.confirm(visible(f"Delete {what}{also} from {registry_path}?"), err=True):
            echo("nothing was deleted", err=True)
            return
        deleted = delete_evaluations(opened, record.id) if with_evaluations else 0
        delete_run(opened, record.id)
    echo(f"deleted {what} and {counted(deleted, 'evaluation')}; prunecast registry gc removes what is unreferenced now")
