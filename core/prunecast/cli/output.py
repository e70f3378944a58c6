"""Output of commands: data on stdout, as a table or as JSON, CSV or JSON lines; shared options.

All text of the commands is printed here. Much of it comes from a registry, which others may have written: characters
that control a terminal are printed as escapes, and a CSV cell that a spreadsheet would compute as a formula gets an
apostrophe in front.
"""

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from prunecast.text import is_hidden, text, visible

LONGEST_CELL = 4000
"""Characters of a cell of a table that are printed; the forms for programs print all."""

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of a cell that spreadsheets compute; the last four are their full-width forms."""

_FORMULA_AFTER = " \t\r\n"
"""Characters that spreadsheets skip in front of a formula."""


def echo(line: str, *, err: bool = False) -> None:
    """Print one line; every hidden character is escaped, line breaks too."""
    click.echo(visible(line), err=err)


def echo_lines(block: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text of several lines; names in it that others may have chosen have to be escaped already."""
    click.echo(visible(block, keep="\n\t"), err=err, nl=nl)


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
            print_json(row, indent=None)
    elif form == "csv" and rows:
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerows([map(_csv_cell, line) for line in (rows[0], *(row.values() for row in rows))])
        click.echo(lines.getvalue(), nl=False)
    elif rows:
        print_rows([short(row) for row in rows], as_json=False, empty=empty)
    if not rows and form != "json":
        echo(empty, err=True)


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    safe = visible(value, keep="\n\t")
    return f"'{safe}" if value.lstrip(_FORMULA_AFTER).startswith(_FORMULA) else safe


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print one JSON value on stdout; hidden characters are JSON escapes, which do not change the value.

    It is in ASCII where stdout cannot print all of its characters.
    """
    dumped = json.dumps(value, ensure_ascii=False, indent=indent)
    # json.dumps itself escapes line breaks inside of strings.
    shown = dumped if dumped.isprintable() else "".join(map(_json_character, dumped))
    try:
        shown.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        shown = json.dumps(value, indent=indent)
    click.echo(shown)


def _json_character(character: str) -> str:
    return json.dumps(character)[1:-1] if is_hidden(character) and character != "\n" else character


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool, empty: str) -> None:
    """Print rows with the same keys as a JSON list or a table; ``empty`` on stderr instead of an empty table."""
    if as_json:
        print_json(list(rows))
    elif rows:
        echo_lines(table(list(rows[0]), [[text(value) for value in row.values()] for row in rows]))
    else:
        echo(empty, err=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, stacked: bool = False) -> str:
    """A table with two spaces between its columns; columns of numbers are right-aligned, others left-aligned.

    Hidden characters in a cell are escaped, line breaks too; a cell of more than ``LONGEST_CELL`` characters is cut.

    Args:
        columns: headings.
        rows: cells, as many in a row as there are headings.
        stacked: True writes a heading on several lines, which end at its dots and spaces.
    """
    columns, *rows = [[_table_cell(cell) for cell in line] for line in (columns, *rows)]
    parts = [_HEADING_END.split(column) if stacked else [column] for column in columns]
    deepest = max(map(len, parts))
    heads = list(zip(*([""] * (deepest - len(part)) + part for part in parts), strict=True))
    widths = [max(len(row[i]) for row in [*heads, *rows]) for i in range(len(columns))]
    aligns: list[Callable[[str, int], str]] = [
        str.rjust if rows and all(_is_number(row[i]) for row in rows) else str.ljust for i in range(len(columns))
    ]
    lines = [*heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(align(cell, width) for cell, width, align in zip(line, widths, aligns, strict=True)).rstrip()
        for line in lines
    )


_HEADING_END = re.compile(r"(?<=\.)(?=\w)|(?<=[^\d\s]) +")
"""Ends of the lines of a heading: behind a dot, and at a space that does not part a number from its unit."""


def _table_cell(cell: str) -> str:
    return visible(cell if len(cell) <= LONGEST_CELL else f"{cell[:LONGEST_CELL]}…")


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
