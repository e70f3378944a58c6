"""The reference of the plugin contract as Markdown, made of the code itself: docs/plugins-reference.md."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import groupby
from typing import Any

from prunecast.plugins import hookspecs, interfaces
from prunecast.plugins.host import KINDS, PluginHost, Registered
from prunecast.spec.options import options_of
from prunecast.testing import SUITES

PUBLIC_MODULES = (
    "architecture",
    "budget",
    "choices",
    "data",
    "encodings",
    "errors",
    "events",
    "hookspecs",
    "interfaces",
    "models.elastic",
    "models.families",
    "models.float64",
    "models.units",
    "shape",
    "testing",
)
"""What plugins may import of prunecast."""

_INTRODUCTION = """# Reference of the plugin contract

Made by `make docs` from the code; edit the docstrings instead. Installed plugins of others are in it too if you run
`prunecast plugins reference` yourself."""


def reference(host: PluginHost) -> str:
    """The whole document, with the plugins of ``host``."""
    parts = [_INTRODUCTION, *_contract(), *_other_hooks()]
    for kind in KINDS:
        parts += _kind(kind, host)
    return "\n\n".join(parts) + "\n"


def _contract() -> Iterator[str]:
    yield "## Hooks"
    yield _markdown(inspect.getdoc(hookspecs))
    yield from (_class(each) for each in (hookspecs.Entry, hookspecs.Trial))
    yield "## Classes"
    yield _markdown(inspect.getdoc(interfaces))
    yield "## Public modules"
    modules = {name: importlib.import_module(f"prunecast.{name}") for name in PUBLIC_MODULES}
    first_lines = {name: (module.__doc__ or "").partition("\n")[0] for name, module in modules.items()}
    yield _table(["module", "what it has"], [[f"`prunecast.{name}`", line] for name, line in first_lines.items()])


def _other_hooks() -> Iterator[str]:
    handing_over = {hook for hook, _ in KINDS.values()}
    others = [name for name in vars(hookspecs) if name.startswith("prunecast_") and name not in handing_over]
    if others:
        yield "## Hooks that follow a run"
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
    yield f"### Example of a {kind}"
    yield f"```python\n{files('prunecast.plugins.examples').joinpath(f'{kind}.py').read_text(encoding='utf-8')}```"
    yield f"### Laws of a {kind}"
    laws = [[f"`{law.__name__}`", _markdown(inspect.getdoc(law))] for law in SUITES[kind].laws]
    yield _table(["law", "what it demands"], laws)
    for registered in host.entries(kind).values():
        yield from _plugin(registered)


def _plugin(registered: Registered) -> Iterator[str]:
    entry, plugin = registered.entry, registered.load()
    yield f"### {registered.kind}: {entry.name}"
    source = f" ({entry.reference})" if entry.reference else ""
    yield f"{entry.summary}{source}. From `{registered.distribution}`."
    yield _markdown(inspect.getdoc(plugin))
    rows = [[f"`{each.name}`", each.kind, f"`{each.default}`", each.help] for each in options_of(plugin.options_model)]
    yield _table(["option", "type", "default", "meaning"], rows) if rows else "No options."


def _class(described: type[Any]) -> str:
    return f"### `{described.__name__}`\n\n{_markdown(inspect.getdoc(described))}"


_SHORT = {
    r"numpy\.ndarray\[tuple\[(?:typing\.)?Any, \.\.\.\], numpy\.dtype\[numpy\.float64\]\]": "Floats",
    r"numpy\.ndarray\[tuple\[(?:typing\.)?Any, \.\.\.\], numpy\.dtype\[numpy\.int64\]\]": "Indices",
    r"prunecast\.\w+\.|typing\.|collections\.abc\.|numpy\.random\._generator\.|pathlib\._?\w*\.?(?=Path)": "",
    r"\(self(?:, |(?=\)))": "(",
}
"""What signatures are written like, by what Python calls it."""


def _function(function: Callable[..., Any], heading: str, name: str = "", *, is_property: bool = False) -> str:
    signature = "" if is_property else str(inspect.signature(function))
    for long, short in _SHORT.items():
        signature = re.sub(long, short, signature)
    return f"{heading} `{name or function.__name__}{signature}`\n\n{_markdown(inspect.getdoc(function))}"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *cells])


def _markdown(text: str | None) -> str:
    """A docstring as Markdown: roles and double backquotes as code, tables in fences, headings a level down."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text or "")
    text = re.sub(r"``([^`]+(?:`[^`]+)*)``", r"`\1`", text)
    text = re.sub(r"^(\S.*)\n-+$", r"### \1", text, flags=re.MULTILINE)
    text = re.sub(r"^(?:Attributes|Args|Raises):\n(?: {4}.*\n?)+", _listed, text, flags=re.MULTILINE)
    lines = [line.replace("::", ":") if line.rstrip().endswith("::") else line for line in text.splitlines()]
    return "\n".join(_fenced(lines))


def _listed(section: re.Match[str]) -> str:
    """A section of names with their meanings as a list."""
    heading, _, body = section[0].partition("\n")
    items = re.sub(r"^ {4}(\w[^:\n]*): ", r"- `\1`: ", body, flags=re.MULTILINE)
    return f"{heading}\n\n{re.sub(r'^ {8}', '  ', items, flags=re.MULTILINE)}"


def _fenced(lines: list[str]) -> Iterator[str]:
    """Lines with every table, from one row of ``===`` to the last, in a fence."""
    rules = [index for index, line in enumerate(lines) if re.match(r"\s*=+ +=+", line)]
    blocks = [list(group) for _, group in groupby(enumerate(rules), key=lambda pair: pair[0] // 3)]
    opening, closing = {block[0][1] for block in blocks}, {block[-1][1] for block in blocks}
    for index, line in enumerate(lines):
        yield from ["```text", line] if index in opening else [line, "```"] if index in closing else [line]
