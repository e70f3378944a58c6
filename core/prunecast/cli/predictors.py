"""``prunecast predictors``."""

from typing import TYPE_CHECKING

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, echo_lines, json_option, print_json, registry_option

if TYPE_CHECKING:
    from prunecast.registry import Registry


@click.group()
def predictors() -> None:
    """Evaluate predictors."""


@predictors.command()
@click.option(
    "--predictor",
    "names",
    multiple=True,
    default=["gp"],
    shell_complete=completion.plugins("predictor"),
    show_default=True,
    help="Name of a predictor plugin; repeatable.",
)
@click.option(
    "--model",
    shell_complete=completion.models,
    help="Source or fingerprint of the model of the pairs; default: the one with most.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=completion.metrics,
    metavar="NAME",
    help="Metric to predict; repeatable; default: the one of the model with most architectures.",
)
@click.option("--pruner", help="Only pairs of this pruner: name or content key.")
@click.option("--set", "options", multiple=True, metavar="OPTION=VALUE", help="Option of the predictors; repeatable.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the splits and of the predictor.")
@registry_option
@json_option
def card(
    names: tuple[str, ...],
    model: str | None,
    metrics: tuple[str, ...],
    pruner: str | None,
    options: tuple[str, ...],
    seed: int,
    registry_path: str,
    as_json: bool,
) -> None:
    """Evaluate predictors on pairs of the registry, all on the same ten random splits."""
    import yaml

    from prunecast.cli.render import render_card
    from prunecast.plugins.host import PluginHost
    from prunecast.predict.from_registry import quality_card
    from prunecast.registry import Registry

    if malformed := [option for option in options if "=" not in option]:
        raise click.BadParameter(f"{malformed[0]!r} is not of the form OPTION=VALUE", param_hint="--set")
    chosen = {key: yaml.safe_load(value) for key, _, value in (option.partition("=") for option in options)}
    host = PluginHost.discover()
    with Registry.open(registry_path, readonly=True) as registry:
        told = ""
        if model is None or not metrics:
            model, metrics, told = _most_measured(registry, model, metrics)
        cards = [quality_card(registry, host, name, chosen, model, metrics, pruner, seed).to_json() for name in names]
    if told:
        echo(told, err=True)
    if as_json:
        print_json(cards)
        return
    echo_lines("\n\n".join(map(render_card, cards)))


def _most_measured(
    registry: "Registry", model: str | None, metrics: tuple[str, ...]
) -> tuple[str, tuple[str, ...], str]:
    """Model and metrics to evaluate on, and a line on them: what is not asked for is that with most architectures."""
    from prunecast.errors import RegistryError
    from prunecast.registry.queries.contents import metrics as measured

    rows = [row for row in measured(registry, model) if row["metric"] in (metrics or (row["metric"],))]
    if not rows:
        raise RegistryError(
            f"{registry.path}: holds no pairs of {', '.join(metrics) or 'any metric'}; prunecast registry metrics "
            "lists what there is"
        )
    most = max(rows, key=lambda row: int(row["architectures"]))
    chosen = metrics or (most["metric"],)
    others = "--model and --metric choose others, of those that prunecast registry metrics lists"
    told = f"pairs of {most['model']} with {', '.join(chosen)}: {others}"
    return model or most["model_key"], chosen, told
