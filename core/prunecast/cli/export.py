"""``prunecast export``."""

from pathlib import Path

import click

from prunecast.cli.output import echo, json_option, offline_option, print_json, registry_option
from prunecast.cli.permissions import permission_options
from prunecast.cli.plugins import plugin_dir_option
from prunecast.cli.push import check_options, push_options, show_push


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
@push_options
@plugin_dir_option
@permission_options
@offline_option
@registry_option
@json_option
def export(
    run: str,
    folder: str,
    architecture: str | None,
    dtype: str | None,
    overwrite: bool,
    push: str | None,
    private: bool,
    dry_run: bool,
    plugin_dirs: tuple[Path, ...],
    remote_code: bool,
    code: tuple[str, ...],
    registry_path: str,
    as_json: bool,
) -> None:
    """Write the best model of RUN (number, name or key) to FOLDER, in the format of Hugging Face transformers.

    Files of others in FOLDER stay. {name} in FOLDER is the name of the run. The spec comes from the registry, which
    others may have written: code that it names is executed only if you name it again.
    """
    check_options(push, private, dry_run)  # before the imports, which take seconds

    from prunecast.export.push import push_folder
    from prunecast.measure.recorded import Permissions
    from prunecast.plugins.host import PluginHost
    from prunecast.progress import Progress
    from prunecast.registry import Registry
    from prunecast.run.export_again import export_again

    with Registry.open(registry_path, readonly=True) as registry:
        host, progress = PluginHost.discover(plugin_dirs), Progress()
        record = registry.run(run)
        permissions = Permissions(remote_code, frozenset(code))
        report = export_again(
            registry, record, architecture, folder, host, permissions, progress, overwrite, dtype
        ).to_json()
    pushed = None if push is None else push_folder(Path(report["folder"]), push, overwrite, private, dry_run)
    if as_json:
        print_json(report if pushed is None else {**report, "push": pushed.to_json()})
    else:
        difference = report["max_logit_difference"]
        echo(
            f"{report['folder']}: {report['parameters']:,} parameters, "
            f"logits within {difference:.1e} of the measured model{', unchanged' if report['unchanged'] else ''}"
        )
        if pushed is not None:
            show_push(pushed, dry_run)
