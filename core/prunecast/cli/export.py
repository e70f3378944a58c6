"""``prunecast export``."""

from pathlib import Path
from typing import Any

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, json_option, offline_option, print_json, registry_option
from prunecast.cli.permissions import permission_options
from prunecast.cli.plugins import plugin_dir_option
from prunecast.cli.push import check_options, push_options, show_push


@click.command()
@click.argument("run", shell_complete=completion.runs)
@click.argument("folder", type=click.Path())
@click.option(
    "--architecture",
    help="Architecture to export instead of the best of the run: its text, or the first digits of its key, as registry "
    "best prints it.",
)
@click.option(
    "--target",
    shell_complete=completion.plugins("exporter"),
    help="Exporter that writes the files, e.g. huggingface or gguf; by default those of the spec.",
)
@click.option(
    "--dtype",
    help="Number format: of the target, if it has formats of its own (gguf: f32, f16, bf16, q8_0, q4_0), else of the "
    "weights: measured, float32, bfloat16 or float16.",
)
@click.option("--require-verified", is_flag=True, help="Refuse a target whose engine is not installed.")
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
    target: str | None,
    dtype: str | None,
    require_verified: bool,
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
    """Write the best model of RUN (number, name or key) to FOLDER: for Hugging Face transformers, or for --target.

    Files of others in FOLDER stay. {name} in FOLDER is the name of the run. The spec comes from the registry, which
    others may have written: code that it names is executed only if you name it again.
    """
    check_options(push, private, dry_run)  # before the imports, which take seconds

    from prunecast.cli.render import render_parity
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
        reports = export_again(
            *(registry, record, architecture, folder, host, permissions, progress, overwrite, dtype),
            # A repository holds one target.
            target or (None if push is None else "huggingface"),
            require_verified,
        )
    pushed = None if push is None else push_folder(reports[0].folder, push, overwrite, private, dry_run)
    rows = [report.to_json() for report in reports]
    _record(registry_path, record.id, rows)
    if as_json:
        rows = rows if pushed is None else [{**rows[0], "push": pushed.to_json()}]
        print_json(rows[0] if len(rows) == 1 else rows)
        return
    for row in rows:
        unchanged = ", unchanged" if row["unchanged"] else ""
        echo(f"{row['folder']}: {row['parameters']:,} parameters, {render_parity(row)}{unchanged}")
        for note in row["notes"]:
            echo(f"note: {note}", err=True)
    if pushed is not None:
        show_push(pushed, dry_run)


def _record(registry_path: str, run_id: int, rows: list[dict[str, Any]]) -> None:
    """Record exports in the registry; in one that cannot be written this is left out, and said."""
    from prunecast.errors import RegistryError
    from prunecast.registry import Registry

    if all(row["unchanged"] for row in rows):
        return
    try:
        with Registry.open(registry_path) as registry:
            registry.keep_exports(run_id, rows)
    except RegistryError as error:
        echo(f"note: the export is not recorded: {error}", err=True)
