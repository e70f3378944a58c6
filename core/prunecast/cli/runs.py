"""``prunecast runs``."""

from typing import TYPE_CHECKING, Any

import click

from prunecast.cli import completion
from prunecast.cli.output import echo_lines, json_option, print_json, registry_option
from prunecast.cli.registry.questions import compare
from prunecast.cli.tables import KEY_DIGITS, say_left_out, show_fitted, wide_option
from prunecast.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prunecast.registry import RunRecord


@click.group()
def runs() -> None:
    """List, show and compare runs."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of runs.")
@registry_option
@wide_option
@json_option
def list_runs(limit: int, registry_path: str, wide: bool, as_json: bool) -> None:
    """List the runs in the registry, newest first."""
    from prunecast.registry import Registry

    with Registry.open(registry_path, readonly=True) as registry:
        every = registry.runs()
    rows = [
        {
            "run": record.id,
            "name": record.name,
            "status": record.status,
            "started_utc": record.started_utc,
            "finished_utc": record.finished_utc,
            "key": record.key,
        }
        for record in every[:limit]
    ]
    empty = f"{registry_path} holds no runs yet; prunecast run quickstart adds one"
    form = "json" if as_json else None
    show_fitted(rows, form, wide, empty, lambda row: {**row, "key": row["key"][:KEY_DIGITS]})
    say_left_out(len(rows), len(every), form, "run")


@runs.command("show")
@click.argument("run", shell_complete=completion.runs)
@registry_option
@json_option
def show_run(run: str, registry_path: str, as_json: bool) -> None:
    """Show RUN (number, name or first digits of its key)."""
    from prunecast.registry import Registry
    from prunecast.report.summary import summary

    with Registry.open(registry_path, readonly=True) as registry:
        record = registry.run(run)
        exports = registry.exports(record.id)
        told = summary(registry, record) if record.result and not as_json else {}
    if as_json:
        print_json(
            {
                "run": record.id,
                "name": record.name,
                "status": record.status,
                "message": record.message,
                "spec": _spec(record),
                "result": record.result,
                "exports": exports,
            }
        )
    else:
        echo_lines("\n\n".join([*_outcome(record, told), *_exports(exports), record.spec_text.rstrip()]))


def _exports(exports: "Sequence[Mapping[str, Any]]") -> list[str]:
    """Table of what was written of the models of a run, by engine; none if nothing was."""
    from prunecast.cli.render import render_exports

    return [render_exports(exports)] if exports else []


def _spec(record: "RunRecord") -> Any:
    import json

    from prunecast.registry.records import reading_result

    with reading_result(record):
        return json.loads(record.spec_json)


def _outcome(record: "RunRecord", told: "Mapping[str, str]") -> list[str]:
    """Status of a run, and the result of the last time it finished, with sentences on it."""
    from prunecast.cli.render import render_card, render_result
    from prunecast.registry.records import reading_result

    status = visible(f"run {record.id} ({record.name}): {record.status}. {record.message}".rstrip())
    if record.result is None:
        return [status]
    with reading_result(record):
        card = record.result.get("quality_card")
        result = [render_result({**record.result, "run": record.id}, told), *([render_card(card)] if card else [])]
    return result if record.status == "finished" else [status, "Result of the last time it finished:", *result]


runs.add_command(compare)
