"""The pages of the reference that are generated from the commands, the spec and the public names are up to date."""

from collections.abc import Callable

import click
import pytest
from places import REPOSITORY

import prunecast
from prunecast import plugins
from prunecast.cli import reference
from prunecast.cli.main import cli
from prunecast.plugins.host import PluginHost


def bundled() -> PluginHost:
    host = PluginHost.discover()
    for name, _ in host.manager.list_name_plugin():
        if name != "prunecast:bundled":
            host.manager.unregister(name=name)
    return host


@pytest.mark.parametrize(
    ("page", "generated"),
    [("cli", reference.commands), ("spec", lambda: reference.spec(bundled())), ("python", reference.python)],
)
def test_a_page_equals_what_is_generated(page: str, generated: Callable[[], str]) -> None:
    written = (REPOSITORY / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")
    assert written == generated(), f"docs/reference/{page}.md is stale: run `make schema`"


def test_every_command_is_told_with_its_options() -> None:
    page = reference.commands()

    def told(command: click.Command, path: str) -> None:
        section = page.split(f"## {path}\n")[1].split("\n## ")[0]
        for each in command.params:
            if isinstance(each, click.Option) and not each.hidden and each.name != "help":
                assert any(f"{name}`" in section or f"{name} " in section for name in each.opts), (path, each.opts)
        for name, below in getattr(command, "commands", {}).items():
            if not below.hidden:
                told(below, f"{path} {name}")

    told(cli, "prunecast")


def test_every_public_name_has_its_place() -> None:
    lines = reference.python().splitlines()
    for name in (*prunecast.__all__, *plugins.__all__):
        assert name == "__version__" or any(line.endswith(f".{name}") for line in lines), name
