"""``prunecast export``."""

from pathlib import Path

import click

from prunecast.cli.output import echo, json_option, offline_option, print_json, registry_option
from prunecast.cli.permissions import permission_options
from prunecast.cli.plugins import plugin_dir_option


@click.command()
@click.argument("run")
@click.argument("folder", type=click.Path())
@click.option(
    "--architecture", help="Architecture to export instead of the best of the run, e.g. '3x3+1536*3 3x2+768*27'."
)
@plugin_dir_option
@permission_options
@offline_option
@registry_option
@json_option
def export(
    run: str,
    folder: str,
    architecture: str | None,
    plugin_dirs: tuple[Path, ...],
    remote_code: bool,
    code: tuple[str, ...],
    registry_path: str,
    as_json: bool,
) -> None:
    """Write the best model of RUN (number, name or key) to FOLDER, in the format of Hugging Face transformers.

    The spec comes from the registry, which others may have written: code that it names is executed only if you name it
    again.
    """
    from prunecast.measure.recorded import Permissions
    from prunecast.plugins.host import PluginHost
    from prunecast.progress import Progress
    from prunecast.registry import Registry
    from prunecast.run.export_again import export_again

    with Registry.open(registry_path, readonly=True) as registry:
        record = registry.run(run)
    host, permissions = PluginHost.discover(plugin_dirs), Permissions(remote_code, frozenset(code))
    report = export_again(record, architecture, Path(folder), host, permissions, Progress()).to_json()
    if as_json:
        print_json(report)
    else:
        difference = report["max_logit_difference"]
        echo(
            f"{report['folder']}: {report['parameters']:,} parameters, "
            f"logits within {difference:.1e} of the measured model"
        )
