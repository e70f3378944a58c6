"""Local plugins: Python files outside any installed distribution.

A number depends on all code that an evaluator or pruner runs, so the hash of a local plugin covers its own files and
every local module that they import, at any depth. The version of the plugin stands for installed packages. Data
files, and modules imported under a computed name, are not covered.
"""

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from prunecast.errors import PluginError

LOCAL = "prunecast_local_"
"""Prefix of the module names of local plugins; other processes can import them with :func:`import_file` only."""


@dataclass(frozen=True)
class Origin:
    """Origin of a plugin.

    Attributes:
        distribution: the installed distribution, or the path of a local file or folder.
        version: version of the distribution; of local code, the beginning of its hash.
        code_hash: hexadecimal hash of local code, which has no version number; None for a distribution.
    """

    distribution: str
    version: str
    code_hash: str | None = None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


def modules_at(path: Path) -> Iterator[tuple[str, Path, Origin]]:
    """Name, file and origin of each plugin module at a path.

    The files of a folder are those that name ``hookimpl``, which every plugin does: a script beside them is not run.

    Raises:
        PluginError: the path does not exist.
    """
    code_hash = code_hash_of(path)
    for file in [path] if path.is_file() else filter(_names_a_hook, sorted(path.glob("[!_]*.py"))):
        yield f"{file.resolve()}:{code_hash}", file, Origin(str(file), code_hash[:8], code_hash)


def _names_a_hook(file: Path) -> bool:
    return file.is_file() and b"hookimpl" in file.read_bytes().lower()


def code_hash_of(path: Path) -> str:
    """Hash of the code of a local plugin, 32 hexadecimal digits; nothing is imported.

    It covers the file, or all Python files of the folder, and the local modules that these import.

    Raises:
        PluginError: the path does not exist.
    """
    if not path.exists():
        raise PluginError(f"no plugin file or folder {str(path)!r}: correct the path")
    folder = path.parent if path.is_file() else path
    own = _python_files(path)
    named = {source.resolve(): str(source.relative_to(folder)) for source in own}
    for module, files in sorted(_imported_by(own, folder).items()):
        named |= {file: f"{module}:{file.name}" for file in files if file not in named}
    return _digest(["\n".join(named.values()).encode(), *map(Path.read_bytes, named)])


def code_at(path: Path) -> dict[str, str]:
    """All code that the hash of a local plugin covers: texts by their paths in a folder with a copy of the plugin."""
    folder = path.parent if path.is_file() else path
    own = _python_files(path)
    found = {source.resolve(): source.relative_to(folder) for source in own}
    for module, files in _imported_by(own, folder).items():
        found |= {file: _place_in_package(module, file) for file in files if file not in found}
    return {place.as_posix(): file.read_text(encoding="utf-8") for file, place in found.items()}


def _python_files(path: Path) -> list[Path]:
    """The file at a path, or all Python files below the folder."""
    return [path] if path.is_file() else [file for file in sorted(path.rglob("*.py")) if file.is_file()]


def _place_in_package(module: str, file: Path) -> Path:
    """Path of a file of a top-level module, relative to the folder of the module."""
    package = next((parent for parent in reversed(file.parents) if parent.name == module), None)
    return Path(file.name) if package is None else file.relative_to(package.parent)


def written_code(code: Mapping[str, str], folder: Path, path: Path) -> Path:
    """Write the result of :func:`code_at` for a path to a folder; returns the path of the plugin in it."""
    for place, text in code.items():
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder / path.name if path.suffix == ".py" else folder


def _imported_by(sources: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    """Files of local modules that source files import, directly or indirectly, by the name of the top-level module."""
    importlib.invalidate_caches()
    found: dict[str, list[Path]] = {}
    queue = list(sources)
    while queue:
        for name in _imports_of(queue.pop()) - found.keys():
            found[name] = _local_files(name, folder)
            queue += found[name]
    return {name: files for name, files in found.items() if files}


def _imports_of(source: Path) -> set[str]:
    """Names of the top-level modules in the import statements of a file, those inside functions included."""
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError):
        return set()  # reported when the plugin is imported
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def _local_files(name: str, folder: Path) -> list[Path]:
    """Python files of a top-level module or package; none if it is installed, built in, or part of prunecast."""
    if name in sys.stdlib_module_names or name in ("prunecast", "prunecast_plugins"):
        return []
    found = PathFinder.find_spec(name, _search_path(folder))
    if found is None:
        return []
    packages = [Path(place) for place in found.submodule_search_locations or ()]
    files = [file for package in packages for file in _python_files(package)]
    if not packages and found.origin:
        files = [Path(found.origin)]
    return [file.resolve() for file in files if file.suffix == ".py" and not _is_installed(file)]


def _is_installed(file: Path) -> bool:
    paths = sysconfig.get_paths()
    return any(file.is_relative_to(paths[kind]) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def _search_path(folder: Path) -> list[str]:
    """``sys.path`` with a folder of local plugins behind all installed packages, and before other such folders."""
    others = [path for path in sys.path if path not in _folders]
    return [*others, str(folder), *(path for path in sys.path if path in _folders and path != str(folder))]


def _digest(parts: Iterable[bytes]) -> str:
    return blake2b(b"\0".join(parts), digest_size=16).hexdigest()


_folders: set[str] = set()
"""Folders of local plugins that are in ``sys.path``."""

_imported: dict[str, str] = {}
"""Hash of the files of each local module, by its name, when a plugin last imported it."""


def imported(file: Path, name: str) -> ModuleType:
    """Import a file as a module whose name cannot clash with an installed module.

    A local module that it imports is imported again if it was edited since another plugin imported it, or if that
    plugin imported another module of the same name.
    """
    sys.path[:] = _search_path(file.parent)
    _folders.add(str(file.parent))
    for module, files in _imported_by([file], file.parent).items():
        digest = _digest([str(files[0]).encode(), *map(Path.read_bytes, files)])
        if _imported.setdefault(module, digest) != digest:
            _imported[module] = digest
            for known in [each for each in sys.modules if each == module or each.startswith(f"{module}.")]:
                del sys.modules[known]
    return import_file(f"{LOCAL}{file.stem}_{name.rpartition(':')[2]}", file)


def import_file(module_name: str, file: Path) -> ModuleType:
    """Import a Python file under a module name. Raises PluginError if it is not a Python file."""
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python file: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
