"""``prunecast registry transfer``."""

from collections.abc import Callable

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, registry_option, rows_option, show_rows
from prunecast.text import counted


def _seed_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed of the predictors and of the drawn pairs."
    )(command)


@click.command()
@click.argument("source", shell_complete=completion.models)
@click.argument("target", shell_complete=completion.models)
@click.option("--metric", required=True, shell_complete=completion.metrics, help="Metric measured for both models.")
@click.option(
    "--predictor",
    default="gbdt",
    shell_complete=completion.plugins("predictor"),
    show_default=True,
    help="Predictor plugin, with its default options.",
)
@click.option("--pruner", help="Pruner of both, by name or content key; default: the one with most pairs of each.")
@_seed_option
@registry_option
@rows_option
def transfer(
    source: str,
    target: str,
    metric: str,
    predictor: str,
    pruner: str | None,
    seed: int,
    registry_path: str,
    form: str | None,
) -> None:
    """Evaluate transfer: rank pairs of the model TARGET with pairs of the model SOURCE and some of its own."""
    from prunecast.plugins.host import PluginHost
    from prunecast.predict.from_registry import transfer_between
    from prunecast.registry import Registry
    from prunecast.registry.queries.pairs import find_pairs

    host = PluginHost.discover()
    with Registry.open(registry_path, readonly=True) as opened:
        known, own = (find_pairs(opened, model, [metric], pruner) for model in (source, target))
    evaluated = transfer_between(host, predictor, known, own, seed)
    echo(f"from {known.series}: {counted(len(known), 'pair')}", err=True)
    echo(f"to   {own.series}: {counted(len(own), 'pair')}; Kendall tau of {metric} on held-out pairs", err=True)
    echo(f"by the number of parameters alone: {evaluated.size:.3f}", err=True)
    rows = [{"own pairs": p.own_pairs, "with source": p.warm, "without": p.cold} for p in evaluated.kendall_tau]
    tau = "{:.3f}".format
    show_rows(
        rows,
        form,
        "the target has too few pairs to rank",
        lambda row: {
            **row,
            "with source": tau(row["with source"]),
            "without": "" if row["without"] is None else tau(row["without"]),
        },
    )
