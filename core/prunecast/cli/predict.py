"""``prunecast predict``."""

import click

from prunecast.cli.output import registry_option, rows_option, show_rows
from prunecast.text import text


@click.command()
@click.argument("target", metavar="ARCHITECTURE|SPEC")
@click.option("--model", help="Model of the architecture; not needed if one model of the registry has its depth.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="What to predict; repeatable; all there is by default."
)
@click.option("--predictor", default="gbdt", show_default=True, help="Predictor plugin for an architecture.")
@click.option("--pruner", help="Only pairs of this pruner: name or content key.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the predictor.")
@registry_option
@rows_option
def predict(
    target: str,
    model: str | None,
    metrics: tuple[str, ...],
    predictor: str,
    pruner: str | None,
    seed: int,
    registry_path: str,
    form: str | None,
) -> None:
    """Predict what ARCHITECTURE would measure, or what SPEC would come to, from the registry alone.

    An architecture is given by its text, e.g. '3x3+1536*3 3x2+768*27', or the first digits of its key; a spec by its
    file or packaged name. No model is loaded; the answer comes with a standard deviation and says what it was learnt
    from.
    """
    from pathlib import Path

    from prunecast.plugins.host import PluginHost
    from prunecast.predict.from_registry import predict_architecture
    from prunecast.registry import Registry
    from prunecast.registry.queries.series import model_of_depth
    from prunecast.registry.queries.show import find_architecture
    from prunecast.run.forecast import predict_spec
    from prunecast.spec.load import load_spec, packaged_specs

    host = PluginHost.discover()
    with Registry.open(registry_path, readonly=True) as opened:
        if Path(target).is_file() or target in packaged_specs():
            found, basis = predict_spec(opened, host, load_spec(target, host))
        else:
            architecture = find_architecture(opened, target)
            model = model or model_of_depth(opened, len(architecture.layers))
            found, basis = predict_architecture(opened, host, architecture, model, metrics, predictor, pruner, seed)
    for line in basis:
        click.echo(line, err=True)
    show_rows(
        [each.to_json() for each in found],
        form,
        "nothing to predict",
        lambda row: {
            "": row["name"],
            **{name: row[name] for name in ("parameters", "metric", "predicted")},
            "+-": text(row["std"]),
            **{name: row[name] for name in ("measured", "architecture")},
        },
    )
