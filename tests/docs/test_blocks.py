"""Every fenced block of every page is checked by its kind, and says why where it is not.

Commands of prunecast are parsed by its own command line; specs are validated; Python is compiled, and what it imports
and names of prunecast is looked up. What needs another program, a network or a large model says so in a comment before
the block, ``<!-- not run: REASON -->``, which excuses nothing that is of prunecast.
"""

import ast
import importlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
import yaml
from markdown import Block, blocks, folder_of, pages, read_page
from places import REPOSITORY
from shown_commands import commands_of, lines_of, problem_of, prunecast_problem

from prunecast.errors import PrunecastError
from prunecast.plugins.families import Family, read_family
from prunecast.plugins.host import PluginHost
from prunecast.spec.load import parse_spec
from prunecast.spec.model import Spec

COMMANDS = blocks("sh", "bash", "shell", "console")
YAML = blocks("yaml", "yml")
PYTHON = blocks("python", "py")
DATA = {"json": json.loads, "toml": tomllib.loads}
NOT_CODE = {"", "text", "dockerfile", "diff", "mermaid", "sql", "csv"}
"""Kinds of blocks with nothing to check."""

SPEC: dict[str, Any] = {
    "model": {"source": "smollm2-135m"},
    "space": "layerwise",
    "pruner": "magnitude",
    "evaluators": [{"use": "perplexity", "dataset": "wikitext2"}],
    "predictor": "gbdt",
    "searcher": "random",
    "budget": {"parameters": 0.8},
}
"""What a part of a spec is added to."""


@cache
def host() -> PluginHost:
    return PluginHost.discover()


# --------------------------------------------------------------------------------------------------- commands


def problems_of_commands(block: Block) -> Iterator[str]:
    for offset, line in lines_of(block.text):
        try:
            shown = commands_of(line)
        except ValueError as error:
            shown = []
            if block.excuse is None:
                yield f"{block.file}:{block.line + offset}: {error}"
        for words in shown:
            problem = problem_of(words, folder_of(block.file))
            if problem and (block.excuse is None or words[0] == "prunecast"):
                yield f"{block.file}:{block.line + offset}: {problem}"


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_exist_with_their_options(block: Block) -> None:
    assert list(problems_of_commands(block)) == []


def test_commands_inside_of_text_exist_with_their_options() -> None:
    problems = [
        f"{page.file}:{line}: {problem}"
        for page in pages()
        for line, code in page.spans()
        if re.match(r"prunecast [\w-]", code) and not re.search(r"[|…\[]|\.\.\.", code)
        for words in commands_of(code)
        if words[0] == "prunecast" and (problem := prunecast_problem(words[1:], whole=False))
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("prunecast run mine.yaml --dry-runs", "prunecast run: No such option '--dry-runs'"),
        ("prunecast rum mine.yaml", "prunecast has no command rum"),
        ("prunecast run", "prunecast run: SPEC is missing"),
        ("prunecast run a b", "prunecast run: b is one argument too many"),
        ("prunecast plugins list --kind nothing", "'nothing' is not one of"),
        ("ls && prunecast registry show", "prunecast registry show: ARCHITECTURE is missing"),
        ("make everything", "the Makefile has no target everything"),
        ('pip install "prunecast[all]"', "pyproject.toml has no extra all"),
        ("python examples/none.py", "there is no file examples/none.py"),
        (".ci/walk", "there is no program .ci/walk"),
        ("vllm serve out/mine", "vllm is another program: say why it is not run"),
    ],
)
def test_what_does_not_exist_is_told_with_its_line(line: str, problem: str) -> None:
    page = read_page(f"# Title\n\n```sh\nmake demo\n{line}\n```\n", "page.md")
    [found] = problems_of_commands(page.blocks[0])
    assert found.startswith("page.md:5: ")
    assert problem in found


def test_an_excuse_is_for_other_programs_only() -> None:
    text = "<!-- not run: needs a GPU -->\n```sh\nvllm serve out\nprunecast nothing\n```\n"
    [block] = read_page(text, "page.md").blocks
    assert block.excuse == "needs a GPU"
    assert list(problems_of_commands(block)) == ["page.md:4: prunecast has no command nothing"]


# ------------------------------------------------------------------------------------------------------- specs


@pytest.mark.parametrize("block", [each for each in YAML if each.excuse is None], ids=str)
def test_yaml_is_a_valid_spec_or_family(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    if isinstance(content, Mapping) and set(content) <= set(Spec.model_fields):
        try:
            parse_spec(
                yaml.safe_dump({**SPEC, **content}, width=1000), host(), path=folder_of(block.file) / "shown.yaml"
            )
        except PrunecastError as error:
            pytest.fail(f"{block}: {error}")
    elif isinstance(content, Mapping) and set(content) <= {field.name for field in fields(Family)}:
        (tmp_path / "family.yaml").write_text(block.text, encoding="utf-8")
        read_family(tmp_path / "family.yaml")
    else:
        pytest.fail(f"{block}: neither a part of a spec nor a family: say why it is not run")


@pytest.mark.parametrize("block", blocks(*DATA), ids=str)
def test_data_can_be_read(block: Block) -> None:
    DATA[block.language](block.text)


# ------------------------------------------------------------------------------------------------------ Python


def unknown_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of what is imported from prunecast, or named as an attribute of it, and is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
            module = _module(str(node.module))
            for alias in node.names:
                if module is None or not (hasattr(module, alias.name) or _module(f"{node.module}.{alias.name}")):
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_ours(alias.name) and _module(alias.name) is None:
                    yield node.lineno, alias.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "prunecast":
            module = _module("prunecast")
            if not hasattr(module, node.attr) and _module(f"prunecast.{node.attr}") is None:
                yield node.lineno, f"prunecast.{node.attr}"


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in ("prunecast", "prunecast_plugins")


@cache
def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def problems_of_python(block: Block) -> list[str]:
    try:
        tree = ast.parse(block.text)
    except SyntaxError as error:
        return [f"{block.file}:{block.line + (error.lineno or 1) - 1}: {error.msg}"]
    return [f"{block.file}:{block.line + line - 1}: there is no {name}" for line, name in unknown_names(tree)]


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_its_names_exist(block: Block) -> None:
    assert problems_of_python(block) == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("from prunecast import rum", "page.md:4: there is no prunecast.rum"),
        ("import prunecast\nprunecast.load(1)", "page.md:5: there is no prunecast.load"),
        ("import prunecast.nowhere", "page.md:4: there is no prunecast.nowhere"),
        ("from prunecast.plugins import (", "page.md:4: '(' was never closed"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_its_line(code: str, problem: str) -> None:
    [block] = read_page(f"# Title\n\n```python\n{code}\n```\n", "page.md").blocks
    assert problems_of_python(block) == [problem]


@pytest.mark.parametrize("block", [each for each in PYTHON if re.match(r"# \w+\.py\b", each.text)], ids=str)
def test_files_of_plugins_can_be_imported(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that begin with the name of their file are modules."""
    if block.excuse is None and "conformance" not in block.text.lower():
        exec(compile(block.text, str(block), "exec"), {"__name__": "shown"})


# ------------------------------------------------------------------------------------------------------ kinds


def test_every_block_is_of_a_known_kind() -> None:
    checked = {"sh", "bash", "shell", "console", "yaml", "yml", "python", "py", *DATA}
    assert [
        f"{block}: {block.language}"
        for page in pages()
        for block in page.blocks
        if block.language not in checked | NOT_CODE and block.excuse is None
    ] == []


# -------------------------------------------------------------------------------------------------- docstrings


@cache
def docstrings() -> list[tuple[str, int, str]]:
    """File, line and text of every docstring of the two packages."""
    files = sorted(file for folder in ("core", "plugins") for file in (REPOSITORY / folder).rglob("*.py"))
    return [
        (str(file.relative_to(REPOSITORY)), node.body[0].lineno, text)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node))
    ]


def code_in_docstrings() -> list[Block]:
    """Indented paragraphs of docstrings that begin like Python."""
    return [
        Block(file, line + text.count("\n", 0, found.start()), "python", dedent(found[0]))
        for file, line, text in docstrings()
        for found in re.finditer(r"^ {4}(?:import|from|class|def|with|@)\b.*(?:\n(?: {4}.*)?)*", text, re.MULTILINE)
        if re.search(r"(?:::|\.)\n\n\Z", text[: found.start()])
    ]


def test_code_in_docstrings_compiles_and_its_names_exist() -> None:
    shown = code_in_docstrings()
    assert {"core/prunecast/__init__.py", "core/prunecast/testing/checks.py"} <= {block.file for block in shown}
    assert [problem for block in shown for problem in problems_of_python(block)] == []


def test_commands_in_docstrings_exist_with_their_options() -> None:
    problems = [
        f"{file}:{line}: {problem}"
        for file, line, text in docstrings()
        for code in re.findall(r"``(prunecast [a-z][^`|…\[]*)``", text)
        for words in commands_of(" ".join(code.split()))
        if words[0] == "prunecast" and (problem := prunecast_problem(words[1:], whole=False))
    ]
    assert problems == []
