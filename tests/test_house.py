"""The rules of the house: who may import whom, what imports cheaply, and what no file says."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from places import REPOSITORY

ROOTS = (REPOSITORY / "core", REPOSITORY / "plugins")

LAYERS = (
    {"__main__"},
    {"cli"},
    {"report"},
    {"pipeline"},
    {"registry", "models", "spec", "plugins", "export", "data", "importers", "examples", "testing", "pytest_plugin"},
    {
        *("interfaces", "hookspecs", "events", "encodings", "reference", "transfer", "models.families"),
        *("budget", "choices", "shape", "architecture", "errors", "isolation"),
    },
)
"""Parts of prunecast from top to bottom. A part imports from its own layer and from those below it."""

PUBLIC = {
    *("architecture", "budget", "choices", "data", "encodings", "errors", "events", "hookspecs"),
    *("interfaces", "shape", "models.elastic", "models.families", "models.float64", "models.units", "testing"),
}
"""What plugins may import of prunecast."""

HEAVY = {"datasets", "optuna", "sklearn", "torch", "transformers", "xgboost"}


def module_of(file: Path) -> str:
    root = next(root for root in ROOTS if file.is_relative_to(root))
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in chain.from_iterable(sorted(root.rglob("*.py")) for root in ROOTS)}
CORE = [module for module in MODULES if module.split(".")[0] == "prunecast"]
BUNDLED = [module for module in MODULES if module.split(".")[0] == "prunecast_plugins"]


def imports(module: str) -> Iterator[str]:
    """Modules imported anywhere in ``module``: at the top, in functions, for type checking only."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = f"{'.' * node.level}{node.module or ''}"
            submodules = [f"{package}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else package for name in submodules)


def part_of(module: str) -> str:
    """The part that a module of prunecast belongs to: ``models.families`` itself, of others the first name."""
    name = module.removeprefix("prunecast").removeprefix(".")
    return name if any(name in layer for layer in LAYERS) else name.split(".")[0]


def layer_of(module: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if part_of(module) in layer)


def is_core(name: str) -> bool:
    """Whether it is a module of prunecast, other than the package itself, which holds only the version."""
    return name.startswith("prunecast.")


def offenders(modules: Iterable[str], offends: Callable[[str, str], bool]) -> list[str]:
    """Imports by ``modules`` that offend, each ``IMPORTER -> IMPORTED``."""
    return [f"{module} -> {name}" for module in modules for name in imports(module) if offends(module, name)]


def test_every_part_of_the_core_has_its_place_in_one_layer() -> None:
    parts = {part_of(module) for module in CORE if module != "prunecast"}
    assert parts == set().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(parts)


def test_no_core_module_imports_from_a_layer_above() -> None:
    modules = [module for module in CORE if module != "prunecast"]
    assert offenders(modules, lambda module, name: is_core(name) and layer_of(name) < layer_of(module)) == []


def test_no_core_module_imports_a_bundled_plugin() -> None:
    assert offenders(CORE, lambda module, name: name.split(".")[0] == "prunecast_plugins") == []


def test_bundled_plugins_import_only_public_modules_of_the_core() -> None:
    public = {f"prunecast.{module}" for module in PUBLIC}
    assert offenders(BUNDLED, lambda module, name: is_core(name) and name not in public) == []


def test_imports_are_absolute() -> None:
    assert offenders(MODULES, lambda module, name: name.startswith(".")) == []


def test_commands_plugins_and_their_interfaces_import_nothing_heavy() -> None:
    commands = [module for module in CORE if part_of(module) in {"cli", "plugins"}]
    light = ["prunecast.plugins.interfaces", "prunecast.plugins.hookspecs", *commands, *BUNDLED]
    code = f"""if True:
        import importlib, sys
        heavy = set({sorted(HEAVY)})
        for module in {light}:
            before = heavy & set(sys.modules)
            importlib.import_module(module)
            for name in sorted(heavy & set(sys.modules) - before):
                print(module, "imports", name)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == ""


def test_no_tracked_file_names_a_place_on_somebodys_machine() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "grep", "--line-number", "--extended-regexp", r"/(work|root|tmp|home|Users)/"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
