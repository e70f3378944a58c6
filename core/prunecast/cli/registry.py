"""``prunecast registry``."""

import click

from prunecast.cli.registry_questions import best, compare, nearest, pareto, query, show, sql, stats


@click.group()
def registry() -> None:
    """Ask what has been measured, and share it."""


for command in (query, best, pareto, nearest, show, compare, stats, sql):
    registry.add_command(command)
