"""``prunecast predictors``."""

import click

from prunecast.cli.output import echo_lines, json_option, print_json, registry_option


@click.group()
def predictors() -> None:
    """Evaluate predictors."""


@predictors.command()
@click.option("--predictor", "names", multiple=True, required=True, help="Name of a predictor plugin; repeatable.")
@click.option(
    "--model", default="smollm2-135m", show_default=True, help="Source or fingerprint of the model of the pairs."
)
@click.option(
    "--metric", "metrics", multiple=True, required=True, metavar="NAME", help="Metric to predict; repeatable."
)
@click.option("--pruner", help="Only pairs of this pruner: name or content key.")
@click.option("--set", "options", multiple=True, metavar="OPTION=VALUE", help="Option of the predictors; repeatable.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the splits and of the predictor.")
@registry_option
@json_option
def card(
    names: tuple[str, ...],
    model: str,
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
        cards = [quality_card(registry, host, name, chosen, model, metrics, pruner, seed).to_json() for name in names]
    if as_json:
        print_json(cards)
        return
    echo_lines("\n\n".join(map(render_card, cards)))
