"""Scaffolding of a package for a new plugin, based on the example of its kind, with tests that pass."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from prunecast import __version__
from prunecast.errors import PluginError
from prunecast.plugins.host import FAMILY, HOOKS
from prunecast.text import with_article


@dataclass(frozen=True)
class _Example:
    """An example plugin used as the template.

    Attributes:
        plugin: name of its class; the class of its options has the suffix ``Options``. Of a family, the beginning of
            the names of its classes.
        summary: one-line summary for ``plugins list``.
        options: options that make its checks quick.
    """

    plugin: str
    summary: str
    options: Mapping[str, Any]


_EXAMPLES = {
    FAMILY: _Example("Plain", "A decoder with an architecture of its own", {}),
    "space": _Example("Steps", "Number of KV groups, and evenly spaced MLP widths", {"steps": 3}),
    "pruner": _Example("Norms", "Sum of powers of the absolute weights of a unit", {"power": 1.0}),
    "evaluator": _Example("Guesses", "Accuracy of the most likely next token", {"windows": 2, "context": 64}),
    "predictor": _Example("Ridge", "Ridge regression on kept fractions", {"penalty": 0.5}),
    "searcher": _Example("Climb", "Hill climbing from a random sample", {"generations": 5, "children": 40}),
    "exporter": _Example("Program", "A program of torch.export", {"probe": 16}),
    "executor": _Example("Commands", "Workers started by commands, such as ssh to other machines", {}),
}

_USAGE = {
    "evaluator": "evaluators:\n  - {use: $name}",
    "exporter": "export:\n  path: out/{name}\n  targets: [$name]",
}


def write_package(kind: str, name: str, folder: Path) -> list[Path]:
    """Write a package with a plugin of the given kind and name to a new folder ``folder/prunecast-NAME``.

    Returns:
        Paths of the files, relative to ``folder``.

    Raises:
        PluginError: the name cannot be converted to a module name, or the folder exists.
    """
    if re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) is None:
        raise PluginError(f"{name!r} is not a valid plugin name: use lower-case letters and digits, such as my-{kind}")
    words = re.split("[-_]", name)
    distribution = "-".join(["prunecast", *words])
    target = folder / distribution
    if target.exists():
        raise PluginError(f"{target} exists: choose another name, or remove it")
    example, package = _EXAMPLES[kind], distribution.replace("-", "_")
    module = package.removeprefix("prunecast_")
    plugin = "".join(word.capitalize() for word in words)
    values = {
        "a_kind": with_article(kind).capitalize(),
        "conformance": f"{kind.capitalize()}Conformance",
        "distribution": distribution,
        "hook": HOOKS[kind],
        "kind": kind,
        "module": module,
        "name": name,
        "options": repr(dict(example.options)).replace("'", '"'),
        "package": package,
        "plugin": plugin,
        "summary": example.summary,
        "usage": Template(_USAGE.get(kind, f"{kind}: {{use: $name}}")).substitute(name=name),
        "version": __version__,
    }
    content = {"pyproject.toml": _filled("pyproject.toml", values)}
    content |= _family(example, values) if kind == FAMILY else _class(kind, example, values)
    for relative, text in content.items():
        file = target / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return [target.relative_to(folder) / relative for relative in content]


def _class(kind: str, example: _Example, values: Mapping[str, str]) -> dict[str, str]:
    """Files of a package with a plugin that is a class."""
    source = f"src/{values['package']}"
    return {
        "README.md": _filled("README.md", values),
        f"{source}/__init__.py": _module(kind, example, values),
        f"{source}/py.typed": "",
        f"tests/test_{values['module']}.py": _filled("test.py", values),
    }


def _family(example: _Example, values: Mapping[str, str]) -> dict[str, str]:
    """Files of a package with an architecture, its description, and the registration of both."""
    source, modeling = f"src/{values['package']}", f"modeling_{values['module']}.py"
    names = {"family.py": modeling, example.plugin: values["plugin"], example.plugin.lower(): values["name"]}
    return {
        "README.md": _filled("family/README.md", values),
        f"{source}/__init__.py": _filled("family/hook.py", values),
        f"{source}/{values['module']}.yaml": _renamed("family.yaml", names),
        f"{source}/{modeling}": _renamed("family.py", names),
        f"{source}/auto.py": _filled("family/auto.py", values),
        f"tests/test_{values['module']}.py": _filled("family/test.py", values),
    }


def _renamed(file: str, names: Mapping[str, str]) -> str:
    """Text of a file of the examples with other names."""
    text = files("prunecast.plugins.examples").joinpath(file).read_text(encoding="utf-8")
    return re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], text)


def _module(kind: str, example: _Example, values: Mapping[str, str]) -> str:
    """Module of the example with the classes renamed, and with the hook at its end."""
    source = files("prunecast.plugins.examples").joinpath(f"{kind}.py").read_text(encoding="utf-8")
    named = re.sub(rf"\b{example.plugin}(Options)?\b", rf"{values['plugin']}\1", source)
    return _IMPORT.sub(_with_hook_names, named, count=1) + _filled("hook.py", values)


_IMPORT = re.compile(r"from prunecast\.plugins import (?:\((?P<lines>[^)]*)\)|(?P<line>.*))")


def _with_hook_names(statement: re.Match[str]) -> str:
    """Import statement of an example, with the names that the hook needs added in the order of isort."""
    names = {*re.findall(r"\w+", statement["lines"] or statement["line"]), "Entry", "Trial", "hookimpl"}
    ordered = sorted(names, key=lambda name: (name[0].islower(), name.lower()))
    return "\n".join(["from prunecast.plugins import (", *(f"    {name}," for name in ordered), ")"])


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = files("prunecast.cli").joinpath("templates", *f"{template}.txt".split("/")).read_text(encoding="utf-8")
    return Template(text).substitute(values)
