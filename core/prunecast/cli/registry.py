"""``prunecast registry``."""

import click

from prunecast.cli.registry_questions import best, compare, nearest, pareto, query, show, sql, stats
from prunecast.cli.registry_sharing import export, import_, merge, publish, pull
from prunecast.cli.registry_transfer import transfer


@click.group()
def registry() -> None:
    """Ask what has been measured, and share it."""


for command in (
    query,
    best,
    pareto,
    nearest,
    show,
    compare,
    stats,
    sql,
    transfer,
    merge,
    export,
    import_,
    publish,
    pull,
):
    registry.add_command(command)
