"""``prunecast report``."""

import click

from prunecast.cli.output import echo, json_option, print_json, registry_option


@click.command()
@click.argument("run")
@click.option(
    "--out", "folder", type=click.Path(file_okay=False), default="report", show_default=True, help="Folder to write to."
)
@registry_option
@json_option
def report(run: str, folder: str, registry_path: str, as_json: bool) -> None:
    """Write RUN (number, name or key) as one HTML page and PNG pictures; no model is loaded."""
    from pathlib import Path

    from prunecast.registry import Registry
    from prunecast.report.page import write_report

    with Registry.open(registry_path, readonly=True) as registry:
        files = write_report(registry, run, Path(folder))
    if as_json:
        print_json([str(file) for file in files])
    else:
        for file in files:
            echo(str(file))
