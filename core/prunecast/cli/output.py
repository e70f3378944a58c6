"""Output of commands: data on stdout, as a table or as JSON, CSV or JSON lines; shared options."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from prunecast.text import text

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

registry_option = click.option(
    "--registry",
    "registry_path",
    default="registry.db",
    envvar="PRUNECAST_REGISTRY",
    show_default=True,
    show_envvar=True,
    type=click.Path(dir_okay=True),
    help="Registry file.",
)


def rows_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options ``--json``, ``--csv`` and ``--nl``, as the argument ``form``; None without any of them."""
    helps = {"nl": "Print one JSON object per line.", "csv": "Print CSV.", "json": "Print a JSON list."}
    for form, meaning in helps.items():
        command = click.option(f"--{form}", "form", flag_value=form, default=None, help=meaning)(command)
    return command


def show_rows(
    rows: Sequence[Mapping[str, Any]],
    form: str | None,
    empty: str,
    short: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> None:
    """Print rows with the same keys on stdout, or the message ``empty`` on stderr if there are none.

    Args:
        rows: the rows.
        form: ``json``, ``csv`` or ``nl`` for all columns, unformatted; None for a table that fits a terminal.
        empty: message instead of an empty table.
        short: converts a row to the columns of the table.
    """
    if form == "json":
        print_json(list(rows))
    elif form == "nl":
        for row in rows:
            click.echo(json_text(row))
    elif form == "csv" and rows:
        lines = io.StringIO()
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        click.echo(lines.getvalue(), nl=False)
    elif rows:
        print_rows([short(row) for row in rows], as_json=False, empty=empty)
    if not rows and form != "json":
        click.echo(empty, err=True)


def print_json(value: Any) -> None:
    """Print one JSON value on stdout."""
    click.echo(json_text(value, indent=2))


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON, in ASCII where stdout cannot print all of its characters."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool, empty: str) -> None:
    """Print rows with the same keys as a JSON list or a table; ``empty`` on stderr instead of an empty table."""
    if as_json:
        print_json(list(rows))
    elif rows:
        click.echo(table(list(rows[0]), [[text(value) for value in row.values()] for row in rows]))
    else:
        click.echo(empty, err=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with two spaces between its columns; columns of numbers are right-aligned, others left-aligned."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    aligns: list[Callable[[str, int], str]] = [
        str.rjust if rows and all(_is_number(row[i]) for row in rows) else str.ljust for i in range(len(columns))
    ]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(align(cell, width) for cell, width, align in zip(line, widths, aligns, strict=True)).rstrip()
        for line in lines
    )


def _is_number(cell: str) -> bool:
    return (
        cell == ""
        or cell.replace(",", "").removesuffix(" %").replace(".", "", 1).replace("-", "").replace("e", "").isdigit()
    )


def _stay_offline(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"


offline_option = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_stay_offline,
    help="Do not use the network; read models and data from this machine.",
)
