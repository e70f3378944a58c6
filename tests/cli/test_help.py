"""Every command ends its help with examples of itself, and shows it quickly."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from shown_commands import commands_of as shown
from shown_commands import lines_of, prunecast_problem

from prunecast.cli.examples import EXAMPLES, add_examples, commands_of
from prunecast.cli.main import cli

COMMANDS = {" ".join(path): command for path, command in commands_of(cli)}


def examples(command: click.Command) -> Iterator[list[str]]:
    """Arguments of prunecast in the examples of a command."""
    for _, line in lines_of("\n".join((command.epilog or "").splitlines()[2:])):
        for program, *arguments in shown(line):
            assert program == "prunecast"
            yield arguments


def without_example(group: click.Group) -> list[str]:
    return [" ".join(path) for path, command in commands_of(group) if not list(examples(command))]


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_has_examples_of_itself_that_it_accepts(path: str) -> None:
    found = list(examples(COMMANDS[path]))
    assert found != []
    assert [problem for arguments in found if (problem := prunecast_problem(arguments))] == []
    ours = [name for name, command in COMMANDS.items() if command is COMMANDS[path]]
    assert all(any(" ".join(arguments).startswith(name) for name in ours) for arguments in found)


def test_a_command_without_example_is_told() -> None:
    @click.group()
    def group() -> None: ...

    @group.command()
    def new() -> None: ...

    @group.command()
    def doctor() -> None: ...

    add_examples(group)
    assert without_example(group) == ["new"]


def test_examples_are_of_commands_that_exist() -> None:
    assert set(EXAMPLES) <= set(COMMANDS)


def test_help_takes_less_than_a_fifth_of_a_second() -> None:
    """By the processor time of the best of three processes, as the machine may be busy."""
    code = """if True:
        import time
        from prunecast.cli.main import cli
        cli.main(["run", "--help"], standalone_mode=False)
        print(time.process_time())
    """
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=60, check=True) for _ in range(3)]
    assert min(float(done.stdout.splitlines()[-1]) for done in runs) < 0.2
