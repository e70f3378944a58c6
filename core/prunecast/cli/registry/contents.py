"""Commands of ``prunecast registry`` that list what it holds: models and metrics."""

import click

from prunecast.cli import completion
from prunecast.cli.output import registry_option, rows_option
from prunecast.cli.tables import KEY_DIGITS, show_fitted, wide_option


@click.command()
@registry_option
@rows_option
@wide_option
def models(registry_path: str, form: str | None, wide: bool) -> None:
    """List the models in the registry."""
    from prunecast.registry import Registry
    from prunecast.registry.queries.contents import models

    with Registry.open(registry_path, readonly=True) as opened:
        rows = models(opened)
    empty = f"{registry_path} holds no models yet; prunecast run quickstart adds one"
    show_fitted(rows, form, wide, empty, lambda row: {**row, "key": row["key"][:KEY_DIGITS]})


@click.command()
@click.option(
    "--model",
    shell_complete=completion.models,
    help="Only this model: its source, or the first digits of its fingerprint.",
)
@registry_option
@rows_option
@wide_option
def metrics(model: str | None, registry_path: str, form: str | None, wide: bool) -> None:
    """List the metrics in the registry, for each model those with most architectures first."""
    from prunecast.registry import Registry
    from prunecast.registry.queries.contents import metrics

    with Registry.open(registry_path, readonly=True) as opened:
        rows = metrics(opened, model)
    empty = f"{registry_path} holds no metrics yet; prunecast run quickstart adds some"
    show_fitted(rows, form, wide, empty, lambda row: {name: row[name] for name in row if name != "model_key"})
