"""Local plugins: Python files that no distribution has installed."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from prunecast.errors import PluginError

LOCAL = "prunecast_local_"
"""What names of local plugins' modules begin with: no other process finds them but by :func:`import_file`."""


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from.

    Attributes:
        distribution: the installed distribution, or the path of a local file or folder.
        version: its version; of local code, the beginning of its hash.
        code_hash: hexadecimal hash of local code, which has no version to tell its states apart; None if installed.
    """

    distribution: str
    version: str
    code_hash: str | None = None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


def modules_at(path: Path) -> Iterator[tuple[str, Path, Origin]]:
    """Name, file and origin of each module at a path; the hash of a folder covers every Python file in it."""
    if not path.exists():
        raise PluginError(f"no plugin file or folder {str(path)!r}: correct the path")
    files = [path] if path.is_file() else sorted(path.glob("[!_]*.py"))
    sources = files if path.is_file() else sorted(path.rglob("*.py"))
    names = "\n".join(str(source.relative_to(path if path.is_dir() else path.parent)) for source in sources)
    code_hash = blake2b(b"\0".join([names.encode(), *map(Path.read_bytes, sources)]), digest_size=16).hexdigest()
    for file in files:
        yield f"{file.resolve()}:{code_hash}", file, Origin(str(file), code_hash[:8], code_hash)


def imported(file: Path, name: str) -> ModuleType:
    """Import a file as a module of its own, whose name nothing installed can have."""
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    return import_file(f"{LOCAL}{file.stem}_{name.rpartition(':')[2]}", file)


def import_file(module_name: str, file: Path) -> ModuleType:
    """Import a Python file as the module of that name. Raises PluginError for any other file."""
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is no Python file: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
