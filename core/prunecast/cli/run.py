"""``prunecast run``."""

import os
from pathlib import Path
from typing import TextIO

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, echo_lines, json_option, offline_option, print_json, registry_option
from prunecast.cli.plugins import plugin_dir_option
from prunecast.cli.render import render_estimate, render_plan, render_preface, render_result

PROMPT = "The most important thing about writing a program is"


@click.command()
@click.argument("spec_name", metavar="SPEC", shell_complete=completion.specs)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the spec, e.g. budget.parameters=0.7; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be measured, what is cached and the estimated time.")
@click.option(
    "--events",
    type=click.File("a", encoding="utf-8", lazy=False),
    metavar="FILE",
    help="Append the events of the run to FILE, one line of JSON each.",
)
@click.option(
    "--executor",
    metavar="NAME",
    shell_complete=completion.plugins("executor"),
    help="Where to measure: local, processes, ray, or another executor of plugins list.",
)
@click.option("--overwrite", is_flag=True, help="Replace an export of another run, spec or architecture.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@plugin_dir_option
@offline_option
@registry_option
@json_option
def run(
    spec_name: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    events: TextIO | None,
    executor: str | None,
    overwrite: bool,
    quiet: bool,
    plugin_dirs: tuple[Path, ...],
    registry_path: str,
    as_json: bool,
) -> None:
    """Run SPEC, a YAML file or the name of a packaged spec; run it again to continue it."""
    from prunecast.measure.setup import Setup
    from prunecast.plugins.host import PluginHost
    from prunecast.plugins.listeners import EventLog
    from prunecast.progress import Progress
    from prunecast.registry import Registry
    from prunecast.registry.unchanged import unchanged
    from prunecast.report.summary import summary
    from prunecast.run.estimate import estimate
    from prunecast.run.plan import plan
    from prunecast.run.runner import run as run_spec
    from prunecast.spec.load import load_spec

    host = PluginHost.discover(plugin_dirs)
    spec = load_spec(spec_name, host, overrides)
    if dry_run and spec.config_path is not None:
        estimated = estimate(spec, host).to_json()
        print_json(estimated) if as_json else echo_lines(render_estimate(estimated))
        return
    if dry_run:
        setup = Setup(spec, host)
        for note in setup.notes:
            echo(note, err=True)
        with unchanged(Path(registry_path)) as registry:
            planned = plan(setup, registry, overwrite).to_json()
        if not as_json and not quiet:
            echo_lines(render_preface(planned), err=True)
        print_json(planned) if as_json else echo_lines(render_plan(planned))
        return
    with Registry.open(registry_path) as registry:
        if events is not None:
            host.manager.register(EventLog(events), "the event log")
        progress = Progress(quiet=quiet)
        result = run_spec(spec, host, registry, progress, overwrite, executor).to_json()
        told = {} if as_json else summary(registry, registry.run(result["run"]))
    if as_json:
        print_json(result, indent=None)
        return
    echo_lines(render_result(result, told))
    folders = [each["folder"] for each in result["exports"] if Path(each["folder"], "model.safetensors").is_file()]
    if folders:
        _show_sentence(folders[0])
    echo(f"report        {_report_command(result['run'], registry_path)}")


def _report_command(run: int, registry_path: str) -> str:
    """The command that writes the report of a run."""
    import shlex

    default = registry_path == "registry.db" or os.environ.get("PRUNECAST_REGISTRY") == registry_path
    return f"prunecast report {run}{'' if default else f' --registry {shlex.quote(registry_path)}'}"


def _show_sentence(folder: str) -> None:
    """Print a sentence of the exported model. One that fails is a warning: the run and its export are complete."""
    from prunecast.errors import one_line
    from prunecast.export.huggingface import continue_text

    try:
        sentence = continue_text(folder, PROMPT)
    except Exception as error:  # noqa: BLE001  # transformers raises almost any class
        echo(f"warning: no sentence of the exported model ({one_line(error)}); the export is complete", err=True)
    else:
        echo(f"a sentence    {sentence}")
