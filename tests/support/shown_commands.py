"""Command lines as documentation shows them, and what is wrong with them: no such command, option, file or target."""

import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from places import REPOSITORY

from prunecast.cli.main import cli

SHELL = {
    "cd",
    "cat",
    "echo",
    "eval",
    "export",
    "grep",
    "head",
    "ls",
    "mkdir",
    "mv",
    "cp",
    "source",
    "for",
    "do",
    "done",
}
"""Commands of a shell, of which nothing is checked."""

PYTHONS = {"python", "python3", ".venv/bin/python"}
PIPS = {"pip", "pipx", "uv"}

_SEPARATORS = frozenset(";&|()<>")
_PLACEHOLDER = re.compile(r"[A-Z_]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Commands of a block with their offsets in lines: those after ``$`` if there is one, else all lines."""
    transcript = any(line.startswith("$ ") for line in text.splitlines())
    pending, start = "", 0
    for offset, line in enumerate(text.splitlines()):
        if not pending:
            start = offset
            if transcript and not line.startswith("$ "):
                continue
            line = line.removeprefix("$ ")
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
        else:
            yield start, pending
            pending = ""


def commands_of(line: str) -> list[list[str]]:
    """Words of each command of a line, without assignments, redirections and comments.

    Raises:
        ValueError: a quotation is not closed.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    names_a_file = False
    for word in lexer:
        if set(word) <= _SEPARATORS:
            names_a_file = bool({"<", ">"} & set(word))
            if not names_a_file:
                commands.append([])
        elif names_a_file:
            names_a_file = False
        elif commands[-1] or not _ASSIGNMENT.fullmatch(word):
            commands[-1].append(word)
    return [command for command in commands if command]


def problem_of(words: Sequence[str], folder: Path) -> str | None:
    """What is wrong with a command, or None; ``folder`` is that of the page.

    A program that is not known here is a problem, as nobody says whether it would run.
    """
    program, arguments = words[0], list(words[1:])
    if program == "prunecast":
        return prunecast_problem(arguments)
    if program in PYTHONS:
        return _python_problem(arguments, folder)
    if program == "make":
        missing = [each for each in arguments if "=" not in each and each not in _targets()]
        return f"the Makefile has no target {missing[0]}" if missing else None
    if program in PIPS:
        extras = {
            extra.strip() for each in re.findall(r"prunecast\[([^\]]+)\]", " ".join(words)) for extra in each.split(",")
        }
        unknown = sorted(extras - _extras())
        return f"pyproject.toml has no extra {unknown[0]}" if unknown else None
    if program.startswith("."):
        return None if os.access(folder / program, os.X_OK) else f"there is no program {program}"
    return None if program in SHELL else f"{program} is another program: say why it is not run"


def prunecast_problem(arguments: Sequence[str], whole: bool = True) -> str | None:
    """What click says against the arguments of ``prunecast``, or None. Nothing is run and no file is opened.

    If it is not ``whole``, as in the middle of a sentence, arguments and options may be missing.
    """
    command: click.Command = cli
    path, rest = "prunecast", list(arguments)
    context: click.Context | None = None
    while True:
        context = command.context_class(command, info_name=path, parent=context, **command.context_settings)
        try:
            values, rest, _ = command.make_parser(context).parse_args(rest)
            _check_values(command, context, values, whole)
        except click.UsageError as error:
            return f"{path}: {error.format_message()}"
        if not isinstance(command, click.Group):
            return f"{path}: {rest[0]} is one argument too many" if rest else None
        if not rest:
            return f"{path}: a command is missing" if whole and not _asks_for_help(values) else None
        below = command.get_command(context, rest[0])
        if below is None:
            return f"{path} has no command {rest[0]}"
        command, path, rest = below, f"{path} {rest[0]}", rest[1:]


def _check_values(command: click.Command, context: click.Context, values: dict[str, Any], whole: bool) -> None:
    """Raise a UsageError for a missing argument, if the command line is whole, and for a choice there is not."""
    for parameter in command.params:
        value = values.get(str(parameter.name))
        given = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
        if whole and parameter.required and not given and not _asks_for_help(values):
            raise click.UsageError(f"{parameter.make_metavar(context)} is missing")
        if isinstance(parameter.type, click.Choice):
            for each in (value for value in given if not _PLACEHOLDER.fullmatch(value)):
                parameter.type.convert(each, parameter, context)


def _asks_for_help(values: dict[str, Any]) -> bool:
    return bool({"help", "version"} & set(values))


def _python_problem(arguments: Sequence[str], folder: Path) -> str | None:
    while arguments and arguments[0].startswith("-") and arguments[0] not in ("-m", "-c"):
        arguments = arguments[1:]
    if not arguments or arguments[0] == "-c":
        return None
    if arguments[0] == "-m":
        return None if find_spec(arguments[1]) else f"there is no module {arguments[1]}"
    name = arguments[0]
    return None if any((base / name).is_file() for base in (REPOSITORY, folder)) else f"there is no file {name}"


@cache
def _targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@cache
def _extras() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])
