"""Tables that fit a terminal of 120 columns: what is the same in all rows is said once, what is long is numbered."""

from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any

import click
from click.core import ParameterSource

from prunecast.cli.output import echo, echo_lines, show_rows, table
from prunecast.text import counted, text, visible

WIDTH = 120
"""Columns of a terminal that tables fit."""

KEY_DIGITS = 8
"""First digits of a key that tables show; commands that take a key find it by them."""

_LONGEST, _SHORTEST = 16, 12
"""Characters: of a description that is not numbered, and of a text that is cut as far as it goes."""

_EVALUATOR = ".evaluator"

Row = Mapping[str, Any]

wide_option = click.option("--wide", is_flag=True, help="Print all columns in full, however wide the table is.")


def show_fitted(
    rows: Sequence[Row],
    form: str | None,
    wide: bool,
    empty: str,
    short: Callable[[Row], Row] = dict,
    described: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Print rows as :func:`show_rows` does, but the table so that it fits ``WIDTH``, unless ``wide``.

    Args:
        rows: the rows.
        form: ``json``, ``csv`` or ``nl`` for all columns, unformatted; None for a table.
        wide: True for a table of all columns.
        empty: message instead of an empty table.
        short: converts a row to the columns of the table.
        described, optional: columns of the table, as of :func:`fitted`.
    """
    if form or wide or not rows:
        show_rows(rows, form, empty)
        return
    block, left_out = fitted([short(row) for row in rows], described, optional)
    echo_lines(block)
    if left_out:
        echo_lines(_wrapped("columns left out", f"{', '.join(left_out)}; --wide prints all"), err=True)


def fitted(
    rows: Sequence[Row], described: Sequence[str] = (), optional: Sequence[str] = ()
) -> tuple[str, Sequence[str]]:
    """A table of at most ``WIDTH`` columns, and the names of columns that it leaves out.

    Headings are stacked if they have to be; texts are cut if that is not enough.

    Args:
        rows: rows with the same columns, at least one.
        described: columns of descriptions. One that is the same in all rows is said once above the table; long ones are
            numbered, and written below. ``NAME.evaluator`` describes the column ``NAME``, and goes where that goes.
        optional: columns that can be left out, those with fewest values first.
    """
    cells = {name: [text(row[name]) for row in rows] for name in rows[0]}
    above, notes = _once(cells, described), _numbered(cells, described)
    left_out = _leave_out(cells, optional)
    below = "\n".join(line for name, lines in notes.items() if name in cells for line in lines)
    return "\n\n".join(filter(None, (above, fit(*_columns(cells)), below))), left_out


def fit(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of at most ``WIDTH`` columns: headings are stacked, and then texts are cut, if they have to be."""
    for stacked in (False, True):
        block = table(columns, rows, stacked=stacked)
        if _width(block) <= WIDTH:
            return block
    lengths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for _ in range(_width(block) - WIDTH):
        longest = lengths.index(max(lengths))
        lengths[longest] = max(lengths[longest] - 1, _SHORTEST)
    cut = [[_cut(cell, length) for cell, length in zip(row, lengths, strict=True)] for row in rows]
    return table(columns, cut, stacked=True)


def say_left_out(shown: int, total: int, form: str | None, noun: str = "row") -> None:
    """Say on stderr that the first rows only are printed, and how to get more.

    Nothing is said to a program, which ``form`` is for, that has set the limit itself.
    """
    chosen = click.get_current_context().get_parameter_source("limit") is not ParameterSource.DEFAULT
    if shown < total and not (form and chosen):
        echo(f"{shown:,} of {counted(total, noun)} shown: --limit sets how many", err=True)


def _once(cells: dict[str, list[str]], described: Sequence[str]) -> str:
    """Take columns out of ``cells`` that are the same in all rows, as lines."""
    same = [name for name in described if name in cells and len(set(cells[name])) == 1]
    longest = max(map(len, same), default=0)
    lines = [(name, cells.pop(name)[0]) for name in same]
    return "\n".join(_wrapped(name.ljust(longest), value) for name, value in lines if value)


def _numbered(cells: dict[str, list[str]], described: Sequence[str]) -> dict[str, list[str]]:
    """Replace long descriptions in ``cells`` by their first word and a number; by column what the numbers stand for."""
    notes = {}
    for name in described:
        if name not in cells or max(map(len, cells[name])) <= _LONGEST:
            continue
        numbers = {value: number for number, value in enumerate(filter(None, dict.fromkeys(cells[name])), start=1)}
        cells[name] = [f"{_first_word(name, value)}[{numbers[value]}]" if value else "" for value in cells[name]]
        notes[name] = [_wrapped(f"{name} [{number}]", value) for value, number in numbers.items()]
    return notes


def _first_word(name: str, value: str) -> str:
    """The first word of a description, which the evaluators of one metric have in common."""
    return "" if name.endswith(_EVALUATOR) else f"{_cut(value.split()[0], _SHORTEST)} "


def _leave_out(cells: dict[str, list[str]], optional: Sequence[str]) -> list[str]:
    """Take optional columns out of ``cells`` until the table fits, those with fewest values first; one stays."""
    there = [name for name in optional if name in cells]
    # Of those with as many values the last goes first.
    filled_last = sorted(there, key=lambda name: (sum(map(bool, cells[name])), -there.index(name)))
    for name in filled_last[:-1]:
        if _width(table(*_columns(cells), stacked=True)) <= WIDTH:
            break
        del cells[name]
        cells.pop(f"{name}{_EVALUATOR}", None)
    return [name for name in there if name not in cells]


def _columns(cells: Mapping[str, list[str]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headings and rows of a table."""
    return list(cells), list(zip(*cells.values(), strict=True))


def _width(block: str) -> int:
    return max(map(len, block.splitlines()))


def _wrapped(name: str, value: str) -> str:
    """A name and its value, on as many lines as it takes."""
    indent = " " * (len(visible(name)) + 2)
    first = f"{visible(name)}  "
    return "\n".join(wrap(visible(value), WIDTH, initial_indent=first, subsequent_indent=indent))


def _cut(value: str, length: int) -> str:
    return value if len(value) <= length else f"{value[: length - 1]}…"
