"""``prunecast registry``."""

import click

from prunecast.cli.registry.contents import metrics, models
from prunecast.cli.registry.questions import best, compare, nearest, pareto, query, show, sql, stats
from prunecast.cli.registry.sharing import export, import_, merge, publish, pull
from prunecast.cli.registry.transfer import transfer


@click.group()
def registry() -> None:
    """Query, share and maintain the registry."""


for command in (
    query,
    best,
    pareto,
    nearest,
    show,
    compare,
    models,
    metrics,
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
