"""``prunecast export``."""

import click

from prunecast.cli.output import json_option, offline_option, print_json, registry_option


@click.command()
@click.argument("run")
@click.argument("folder", type=click.Path())
@click.option(
    "--architecture", help="Architecture to export instead of the best of the run, e.g. '3x3+1536*3 3x2+768*27'."
)
@click.option(
    "--dtype",
    type=click.Choice(["measured", "float32", "bfloat16", "float16"]),
    help="Number format of the weights; by default what the spec says, which is the one they were measured in.",
)
@click.option("--overwrite", is_flag=True, help="Replace an export of another run, spec or architecture.")
@offline_option
@registry_option
@json_option
def export(
    run: str,
    folder: str,
    architecture: str | None,
    dtype: str | None,
    overwrite: bool,
    registry_path: str,
    as_json: bool,
) -> None:
    """Write the best model of RUN (number, name or key) to FOLDER, in the format of Hugging Face transformers.

    Files of others in FOLDER stay. {name} in FOLDER is the name of the run.
    """
    from prunecast.plugins.host import PluginHost
    from prunecast.progress import Progress
    from prunecast.registry import Registry
    from prunecast.run.export_again import export_again

    with Registry.open(registry_path, readonly=True) as registry:
        host, progress = PluginHost.discover(), Progress()
        record = registry.run(run)
        report = export_again(registry, record, architecture, folder, host, progress, overwrite, dtype).to_json()
    if as_json:
        print_json(report)
    else:
        difference = report["max_logit_difference"]
        click.echo(
            f"{report['folder']}: {report['parameters']:,} parameters, "
            f"logits within {difference:.1e} of the measured model{', unchanged' if report['unchanged'] else ''}"
        )
