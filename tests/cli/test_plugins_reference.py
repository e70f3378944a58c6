"""docs/reference/plugins.md equals the generated reference, and every public item has documentation."""

import inspect
import re
from pathlib import Path

import pytest
from house import PUBLIC
from places import REPOSITORY

from prunecast.cli.plugins_reference import PUBLIC_MODULES, reference
from prunecast.plugins import hookspecs, interfaces
from prunecast.plugins.host import KINDS, PluginHost
from prunecast.testing import SUITES

HOOKS = [name for name in vars(hookspecs) if name.startswith("prunecast_")]


def test_the_document_equals_the_generated_reference() -> None:
    host = PluginHost.discover()
    for name, _ in host.manager.list_name_plugin():
        if name != "prunecast:bundled":
            host.manager.unregister(name=name)
    assert (REPOSITORY / "docs/reference/plugins.md").read_text() == reference(host), "stale: run `make schema`"


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_and_implemented_by_a_test(hook: str) -> None:
    assert inspect.getdoc(getattr(hookspecs, hook)), "a hook without documentation"
    assert f"`{hook}(" in (REPOSITORY / "docs/reference/plugins.md").read_text()
    tests = [file.read_text() for file in (REPOSITORY / "tests").rglob("*.py") if file != Path(__file__)]
    assert any(re.search(rf'\b{hook}\b|"{hook.removeprefix("prunecast_")}"', text) for text in tests)


@pytest.mark.parametrize("kind", KINDS)
def test_every_public_method_of_every_kind_is_documented(kind: str) -> None:
    interface = KINDS[kind][1]
    public = {name: member for name, member in vars(interface).items() if not name.startswith("_")}
    functions = {name: getattr(member, "fget", member) for name, member in public.items()}
    silent = [name for name, function in functions.items() if inspect.isfunction(function) and not function.__doc__]
    assert inspect.getdoc(interface)
    assert silent == []


@pytest.mark.parametrize("kind", SUITES)
def test_every_check_is_documented(kind: str) -> None:
    assert [check.__name__ for check in SUITES[kind].checks if not check.__doc__] == []


def test_the_public_modules_are_those_plugins_may_import() -> None:
    assert set(PUBLIC_MODULES) == PUBLIC


def test_every_shared_option_is_described() -> None:
    shared = (interfaces.CalibrationOptions, interfaces.CompensationOptions, interfaces.PrunerOptions)
    assert [name for model in shared for name, field in model.model_fields.items() if not field.description] == []
