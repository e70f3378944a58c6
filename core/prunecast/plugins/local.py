"""Local plugins: Python files outside any installed distribution."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
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
    """Name, file and origin of each plugin module at a path. The hash of a folder covers all Python files in it.

    Raises:
        PluginError: the path does not exist.
    """
    if not path.exists():
        raise PluginError(f"no plugin file or folder {str(path)!r}: correct the path")
    files = [path] if path.is_file() else sorted(path.glob("[!_]*.py"))
    sources = files if path.is_file() else sorted(path.rglob("*.py"))
    names = "\n".join(str(source.relative_to(path if path.is_dir() else path.parent)) for source in sources)
    code_hash = blake2b(b"\0".join([names.encode(), *map(Path.read_bytes, sources)]), digest_size=16).hexdigest()
    for file in files:
        yield f"{file.resolve()}:{code_hash}", file, Origin(str(file), code_hash[:8], code_hash)


def imported(file: Path, name: str) -> ModuleType:
    """Import a file as a module whose name cannot clash with an installed module."""
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
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
