"""Generator of docs/reference/plugins.md: the plugin contract as Markdown, made from the docstrings."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import groupby
from typing import Any

from prunecast import plugins
from prunecast.models.families.family import Family, Variant
from prunecast.plugins import hookspecs, interfaces
from prunecast.plugins.families import flow, meanings, plain
from prunecast.plugins.host import FAMILY, HOOKS, KINDS, PluginHost, Registered
from prunecast.spec.options import options_of
from prunecast.testing import SUITES
from prunecast.text import with_article

PUBLIC_MODULES = ("prunecast", "prunecast.plugins", "prunecast.testing", "prunecast.errors", "prunecast.measure.worker")
"""Modules that plugins may import."""

_INTRODUCTION = """# Reference of the plugin contract

Generated from the docstrings by `make schema`; edit those instead of this file. Run `prunecast plugins reference` to
include all plugins that are installed on your machine."""


def reference(host: PluginHost) -> str:
    """The complete document, with the plugins of ``host``."""
    parts = [_INTRODUCTION, *_contract(), *_other_hooks()]
    for kind in KINDS:
        parts += _kind(kind, host)
    parts += _family(host)
    return "\n\n".join(parts) + "\n"


def _contract() -> Iterator[str]:
    yield "## Hooks"
    yield markdown(inspect.getdoc(hookspecs))
    yield from (_class(each) for each in (hookspecs.Entry, hookspecs.Trial))
    yield "## Classes"
    yield markdown(inspect.getdoc(interfaces))
    yield "## Public modules"
    modules = {name: importlib.import_module(name) for name in PUBLIC_MODULES}
    first_lines = {name: (module.__doc__ or "").partition("\n")[0] for name, module in modules.items()}
    yield table(["module", "contents"], [[f"`{name}`", line] for name, line in first_lines.items()])
    yield "## Names of `prunecast.plugins`"
    names = {name: getattr(plugins, name) for name in plugins.__all__}
    described = {name: each for name, each in names.items() if inspect.isclass(each) or inspect.isfunction(each)}
    rows = [[f"`{name}`", markdown(inspect.getdoc(each)).partition("\n")[0]] for name, each in described.items()]
    yield table(["name", "description"], rows)
    yield f"Type aliases and constants: {', '.join(f'`{name}`' for name in names if name not in described)}."


def _other_hooks() -> Iterator[str]:
    others = [name for name in vars(hookspecs) if name.startswith("prunecast_") and name not in HOOKS.values()]
    if others:
        yield "## Hooks of listeners"
        yield from (_function(getattr(hookspecs, name), "###") for name in others)


def _kind(kind: str, host: PluginHost) -> Iterator[str]:
    hook, interface = KINDS[kind]
    yield f"## Kind: {kind}"
    yield _function(getattr(hookspecs, hook), "###")
    yield _class(interface)
    own = [member for member in vars(interface).items() if not member[0].startswith("_")]
    for name, member in own:
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function):
            yield _function(function, "####", f"{interface.__name__}.{name}", is_property=isinstance(member, property))
    yield f"### Example of {with_article(kind)}"
    # A docstring of an example may have a fence of three of its own.
    yield f"````python\n{files('prunecast.plugins.examples').joinpath(f'{kind}.py').read_text(encoding='utf-8')}````"
    yield from _checks(kind)
    for registered in host.entries(kind).values():
        yield from _plugin(registered)


def _checks(kind: str) -> Iterator[str]:
    yield f"### Checks of {with_article(kind)}"
    checks = [[f"`{check.__name__}`", markdown(inspect.getdoc(check))] for check in SUITES[kind].checks]
    yield table(["check", "requirement"], checks)


def _family(host: PluginHost) -> Iterator[str]:
    """The kind that is data: its hook, the fields of a description, and the families of ``host``."""
    yield f"## Kind: {FAMILY}"
    yield _function(getattr(hookspecs, HOOKS[FAMILY]), "###")
    yield "### Fields of a description"
    yield (
        "A module named for several of query, key and value, or for gate and up, is fused. Names are relative to the "
        "decoder layer. Projections are `nn.Linear` or `Conv1D`."
    )
    default = plain(Family(""))
    shown = {name: f"`{flow(value)}`" for name, value in default.items()} | {"name": "required"}
    rows = [[f"`{name}`", shown[name], meaning] for name, meaning in meanings().items()]
    yield table(["field", "default", "meaning"], rows)
    yield "A variant has two fields:"
    yield table(["field", "meaning"], [[f"`{name}`", meaning] for name, meaning in meanings(Variant).items()])
    yield f"### Example of a {FAMILY}"
    yield f"```yaml\n{files('prunecast.plugins.examples').joinpath('family.yaml').read_text(encoding='utf-8')}```"
    yield "`prunecast plugins new --kind family NAME` writes it with the architecture that it describes."
    yield from _checks(FAMILY)
    yield "### Families"
    found = host.entries(FAMILY).values()
    rows = [[f"`{each.entry.name}`", each.entry.summary, f"`{each.distribution}`"] for each in found]
    yield table(["model type", "models", "from"], rows)


def _plugin(registered: Registered) -> Iterator[str]:
    entry, plugin = registered.entry, registered.load()
    yield f"### {registered.kind}: {entry.name}"
    source = f" ({entry.reference})" if entry.reference else ""
    yield f"{entry.summary}{source}. From `{registered.distribution}`."
    yield markdown(inspect.getdoc(plugin))
    rows = [[f"`{each.name}`", each.kind, f"`{each.default}`", each.help] for each in options_of(plugin.options_model)]
    yield table(["option", "type", "default", "meaning"], rows) if rows else "No options."


def _class(described: type[Any]) -> str:
    return f"### `{described.__name__}`\n\n{markdown(inspect.getdoc(described))}"


_SHORT = {
    r"numpy\.ndarray\[tuple\[(?:typing\.)?Any, \.\.\.\], numpy\.dtype\[numpy\.float64\]\]": "Floats",
    r"numpy\.ndarray\[tuple\[(?:typing\.)?Any, \.\.\.\], numpy\.dtype\[numpy\.int64\]\]": "Indices",
    r"prunecast\.(?:\w+\.)+|typing\.|collections\.abc\.|numpy\.random\._generator\.|pathlib\._?\w*\.?(?=Path)": "",
    r"\(self(?:, |(?=\)))": "(",
}
"""Replacements that shorten signatures, by regular expression."""


def _function(function: Callable[..., Any], heading: str, name: str = "", *, is_property: bool = False) -> str:
    signature = "" if is_property else str(inspect.signature(function))
    for long, short in _SHORT.items():
        signature = re.sub(long, short, signature)
    return f"{heading} `{name or function.__name__}{signature}`\n\n{markdown(inspect.getdoc(function))}"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Markdown table of cells in Markdown; line breaks in a cell become spaces."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *cells])


def markdown(text: str | None) -> str:
    """Docstring as Markdown: roles and double backquotes as code, tables in fences, headings at level 3."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text or "")
    text = re.sub(r"``([^`]+(?:`[^`]+)*)``", r"`\1`", text)
    text = re.sub(r"^(\S.*)\n-+$", r"### \1", text, flags=re.MULTILINE)
    text = re.sub(r"^(?:Attributes|Args|Raises):\n(?: {4}.*\n?)+", _listed, text, flags=re.MULTILINE)
    lines = [line.replace("::", ":") if line.rstrip().endswith("::") else line for line in text.splitlines()]
    return "\n".join(_fenced(lines))


def _listed(section: re.Match[str]) -> str:
    """Section of names and descriptions as a Markdown list."""
    heading, _, body = section[0].partition("\n")
    items = re.sub(r"^ {4}(\w[^:\n]*): ", r"- `\1`: ", body, flags=re.MULTILINE)
    return f"{heading}\n\n{re.sub(r'^ {8}', '  ', items, flags=re.MULTILINE)}"


def _fenced(lines: list[str]) -> Iterator[str]:
    """Lines with every table, from its first to its third row of ``===``, in a fence."""
    rules = [index for index, line in enumerate(lines) if re.match(r"\s*=+ +=+", line)]
    blocks = [list(group) for _, group in groupby(enumerate(rules), key=lambda pair: pair[0] // 3)]
    opening, closing = {block[0][1] for block in blocks}, {block[-1][1] for block in blocks}
    for index, line in enumerate(lines):
        yield from ["```text", line] if index in opening else [line, "```"] if index in closing else [line]
