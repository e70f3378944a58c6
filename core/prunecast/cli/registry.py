"""``prunecast registry``."""

from typing import Any

import click

from prunecast.cli.output import json_option, percent, print_json, print_rows, registry_option, table, text


@click.group()
def registry() -> None:
    """Ask what has been measured."""


@registry.command()
@registry_option
@json_option
def stats(registry_path: str, as_json: bool) -> None:
    """Count what the registry holds."""
    from prunecast.registry import Registry, queries

    with Registry.open(registry_path, readonly=True) as opened:
        counts = queries.stats(opened)
    if as_json:
        print_json(counts)
    else:
        click.echo(table(["", "count"], [[name.replace("_", " "), text(count)] for name, count in counts.items()]))


@registry.command()
@click.option("--model", help="Source of a model, or the first digits of its fingerprint.")
@click.option("--metric", help="A metric, e.g. wikitext2.test.ppl.")
@click.option("--run", help="A run: number, name or key.")
@click.option("--sort", help="A column, -COLUMN for descending.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many rows.")
@registry_option
@json_option
def query(
    model: str | None,
    metric: str | None,
    run: str | None,
    sort: str | None,
    limit: int,
    registry_path: str,
    as_json: bool,
) -> None:
    """List measurements, one row a metric."""
    from prunecast.registry import Registry, queries

    with Registry.open(registry_path, readonly=True) as opened:
        rows = queries.query(opened, model, metric, run, sort, limit)
    print_rows(rows if as_json else _short(rows), as_json, empty="no measurement matches")


@registry.command()
@click.argument("metric")
@click.option("--model", help="Source of a model, or the first digits of its fingerprint.")
@click.option("--budget", "limits", multiple=True, metavar="QUANTITY=VALUE", help="E.g. parameters=0.8; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="How many rows.")
@registry_option
@json_option
def best(
    metric: str, model: str | None, limits: tuple[str, ...], limit: int, registry_path: str, as_json: bool
) -> None:
    """List the best measured architectures by METRIC, within a budget."""
    from prunecast.registry import Registry, queries

    budget = dict(_limit(given) for given in limits)
    with Registry.open(registry_path, readonly=True) as opened:
        rows = queries.best(opened, metric, model, budget, limit)
    print_rows(rows if as_json else _short(rows), as_json, empty="no measured architecture meets the budget")


@registry.command()
@click.argument("statement")
@registry_option
@json_option
def sql(statement: str, registry_path: str, as_json: bool) -> None:
    """Answer a SELECT STATEMENT; the registry cannot be changed this way."""
    from prunecast.registry import Registry, queries

    with Registry.open(registry_path, readonly=True) as opened:
        rows = queries.sql(opened, statement)
    print_rows(rows, as_json, empty="no rows")


def _short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The columns that fit a terminal; --json has them all."""
    columns = ("model", "dtype", "metric", "value", "standard_error", "parameters", "kept", "architecture")
    return [{column: row[column] for column in columns} | {"kept": percent(row["kept"])} for row in rows]


def _limit(given: str) -> Any:
    from prunecast.shape import QUANTITIES

    quantity, _, value = given.partition("=")
    if quantity not in QUANTITIES:
        raise click.BadParameter(
            f"{quantity!r} is no quantity: use one of {', '.join(QUANTITIES)}", param_hint="--budget"
        )
    try:
        return quantity, float(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{given!r}: write {quantity}=0.8, or an absolute count", param_hint="--budget"
        ) from error
