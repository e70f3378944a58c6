"""``prunecast run``."""

import json
from pathlib import Path
from typing import Any, TextIO

import click

from prunecast.cli.offline import offline_option
from prunecast.cli.output import json_option, percent, print_json, registry_option, table, text
from prunecast.cli.plugins import plugin_dir_option

COUNTED = (
    "tokens     go forward through the model; one trained on counts 3 times, as its backward pass takes 2 forward ones",
    "estimated  of them: questions, by their mean length, and instructions found here, as if all had full length",
    "uncounted  evaluations or trainings whose data are not here, and whose options do not tell their length",
    "",
)

PROMPT = "The most important thing about writing a program is"


@click.command()
@click.argument("spec_name", metavar="SPEC")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the spec, e.g. budget.parameters=0.7."
)
@click.option("--dry-run", is_flag=True, help="Tell what would be measured, what is cached and how long it takes.")
@click.option(
    "--events",
    type=click.File("a", encoding="utf-8", lazy=False),
    metavar="FILE",
    help="Append what happens to FILE, one line of JSON an event.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@plugin_dir_option
@offline_option
@registry_option
@json_option
def run(
    spec_name: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    events: TextIO | None,
    quiet: bool,
    plugin_dirs: tuple[Path, ...],
    registry_path: str,
    as_json: bool,
) -> None:
    """Run SPEC, a YAML file or the name of a packaged spec; run it again to continue it."""
    from prunecast.pipeline.event_log import EventLog
    from prunecast.pipeline.outline import outline
    from prunecast.pipeline.plan import plan
    from prunecast.pipeline.progress import Progress
    from prunecast.pipeline.runner import run as run_spec
    from prunecast.pipeline.sample import continue_text
    from prunecast.pipeline.setup import Setup
    from prunecast.plugins import PluginHost
    from prunecast.registry import Registry
    from prunecast.spec.load import load_spec

    host = PluginHost.discover(plugin_dirs)
    spec = load_spec(spec_name, host, overrides)
    if dry_run and spec.config_path is not None:
        outlined = outline(spec, host).to_json()
        print_json(outlined) if as_json else click.echo(render_outline(outlined))
        return
    with Registry.open(registry_path) as registry:
        if dry_run:
            planned = plan(Setup(spec, host), registry).to_json()
            print_json(planned) if as_json else click.echo(render_plan(planned))
            return
        if events is not None:
            host.manager.register(EventLog(events), "the event log")
        progress = Progress(quiet=quiet)
        result = run_spec(spec, host, registry, progress).to_json()
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    click.echo(render_result(result))
    if result["export"]:
        click.echo(f"a sentence    {continue_text(result['export']['folder'], PROMPT)}")


def render_result(result: dict[str, Any]) -> str:
    """The result of a run as people read it."""
    model, dense, best = result["model"], result["dense"], result["best"]
    metrics = list(dense["metrics"])
    predicted = {**best, "name": "best, predicted", "metrics": best["predicted"]}
    measured = {**best, "name": "best, measured"}
    recovery = result.get("recovery")
    recovered = [{**recovery["after"], "name": f"best, recovered by {recovery['method']}"}] if recovery else []
    rows = [
        [
            row["name"],
            text(row["parameters"]),
            percent(row["parameters"] / dense["parameters"]),
            *(text(row["metrics"].get(metric)) for metric in metrics),
        ]
        for row in (dense, *result["baselines"], predicted, measured, *recovered)
    ]
    evaluations, predictor, export = result["evaluations"], result["predictor"], result["export"]
    quality = "too few pairs to judge"
    if predictor["r2"] is not None:
        quality = f"R2 {predictor['r2']:.3f}, Kendall tau {predictor['kendall_tau']:.3f} on held-out pairs"
    limits = ", ".join(f"{quantity} <= {limit:,}" for quantity, limit in result["budget"].items()) or "none"
    lines = [
        f"{result['name']}: run {result['run']} of {model['source']} in {model['dtype']}, budget {limits}",
        "",
        table(["", "parameters", "kept", *metrics], rows),
        "",
        f"predictor     {predictor['use']}, {predictor['pairs']} pairs: {quality}",
        f"evaluations   {evaluations['measured']} measured, {evaluations['cached']} from the registry",
        f"architecture  {best['architecture']}",
    ]
    if recovery:
        lines.append(f"recovery      {_recovery_text(recovery)}")
    if export:
        off = export["max_logit_difference"]
        lines.append(f"written to    {export['folder']} (logits within {off:.1e} of the measured model's)")
    return "\n".join(lines)


def _recovery_text(recovery: dict[str, Any]) -> str:
    losses, options = recovery["losses"], recovery["options"]
    trained = f"{recovery['method']} on {options['dataset']}, {recovery['steps']} steps of {options['batch']}"
    if losses is None:
        return f"{trained}, trained elsewhere"
    return f"{trained} in {recovery['seconds']:,.0f} s: loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last"


def render_plan(plan: dict[str, Any]) -> str:
    """A plan as people read it."""
    rows = [
        [
            step["stage"],
            text(step["architectures"]),
            text(step["evaluations"]),
            "?" if step["cached"] is None else text(step["cached"]),
            f"{step['seconds']:,.0f}",
        ]
        for step in plan["steps"]
    ]
    total = f"about {plan['seconds'] / 60:,.1f} minutes of evaluation, by {plan['basis']}"
    return "\n".join([table(["stage", "architectures", "evaluations", "cached", "seconds"], rows), "", total])


def render_outline(outline: dict[str, Any]) -> str:
    """An outline as people read it."""
    columns = ("stage", "architectures", "evaluations", "tokens", "estimated", "uncounted", "petaflop")
    rows = [[text(stage[column]) for column in columns] for stage in outline["stages"]]
    total = sum(stage["petaflop"] for stage in outline["stages"])
    head = f"{outline['parameters']:,} parameters, {outline['choices']} choices"
    beside = " and what is uncounted" if any(stage["uncounted"] for stage in outline["stages"]) else ""
    last = f"{total:,.0f} petaflop{beside}; a device of 100 teraflops takes {total / 6:,.0f} minutes"
    return "\n".join([head, "", table(columns, rows), "", *COUNTED, last])
