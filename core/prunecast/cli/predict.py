"""``prunecast predict``."""

from collections.abc import Sequence

import click
from click.core import ParameterSource

from prunecast.cli import completion
from prunecast.cli.output import echo, registry_option, rows_option, show_rows
from prunecast.text import text


@click.command()
@click.argument("target", metavar="ARCHITECTURE|SPEC", shell_complete=completion.specs)
@click.option(
    "--model",
    shell_complete=completion.models,
    help="Model of the architecture; optional if only one model in the registry has its depth.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=completion.metrics,
    metavar="NAME",
    help="Metric to predict; repeatable; default: all.",
)
@click.option(
    "--predictor",
    default="gbdt",
    shell_complete=completion.plugins("predictor"),
    show_default=True,
    help="Predictor plugin.",
)
@click.option("--pruner", help="Only pairs of this pruner: name or content key.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the predictor.")
@registry_option
@rows_option
@click.pass_context
def predict(
    context: click.Context,
    target: str,
    model: str | None,
    metrics: tuple[str, ...],
    predictor: str,
    pruner: str | None,
    seed: int,
    registry_path: str,
    form: str | None,
) -> None:
    """Predict the metrics of ARCHITECTURE, or the result of SPEC, from the registry.

    ARCHITECTURE is its text, e.g. '3x3+1536*3 3x2+768*27', or the first digits of its key; SPEC is a file or the name
    of a packaged spec. No model is loaded. Predictions have standard deviations; the pairs that the predictor was
    fitted on are reported. The options --model, --metric, --predictor, --pruner and --seed are for an ARCHITECTURE; a
    SPEC names its own.
    """
    from pathlib import Path

    from prunecast.plugins.host import PluginHost
    from prunecast.predict.from_registry import predict_architecture
    from prunecast.registry import Registry
    from prunecast.registry.queries.series import model_of_depth
    from prunecast.registry.queries.show import find_architecture
    from prunecast.run.forecast import predict_spec, refuse_options
    from prunecast.spec.load import load_spec, packaged_specs

    is_spec = Path(target).is_file() or target in packaged_specs()
    if is_spec:
        refuse_options(_given(context, ("model", "metrics", "predictor", "pruner", "seed")))
    host = PluginHost.discover()
    with Registry.open(registry_path, readonly=True) as opened:
        if is_spec:
            found, basis = predict_spec(opened, host, load_spec(target, host))
        else:
            architecture = find_architecture(opened, target)
            model = model or model_of_depth(opened, len(architecture.layers))
            found, basis = predict_architecture(opened, host, architecture, model, metrics, predictor, pruner, seed)
    for line in basis:
        echo(line, err=True)
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


def _given(context: click.Context, parameters: Sequence[str]) -> list[str]:
    """Options among these parameters that are on the command line, rather than at their defaults."""
    return [
        option.opts[0]
        for option in context.command.params
        if option.name in parameters and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
