"""Rules of a source tree: its packages ("rooms"), imports between them, and import cycles."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

ROOMS = (
    *("errors", "keys", "cache", "hub", "text", "progress", "moved"),
    *("yaml_files", "owned"),
    *("architecture", "architecture.formats"),
    *("data", "models.families", "models.pruned", "models.cpu", "models", "models.streamed"),
    *("plugins", "plugins.examples"),
    "spec",
    *("registry.schema", "registry.sqlite", "registry", "registry.queries", "registry.sharing", "registry.upkeep"),
    *("problem", "predict", "search", "compare"),
    *("measure", "export", "export.proof", "export.gguf", "recover", "run", "first_spec", "doctor"),
    *("report", "testing", "pytest_plugin"),
    *("api", "cli", "__main__"),
)
"""Folders and single modules of prunecast, lowest first. A room imports from itself and from the rooms before it."""

ALCOVES = {"cli.registry": "cli"}
"""Folders that are a part of the room around them: the commands of one group."""


PUBLIC = {"prunecast", "prunecast.plugins", "prunecast.errors", "prunecast.testing", "prunecast.measure.worker"}
"""Modules that the contract covers."""


class House:
    """The modules of a source tree.

    Args:
        root: folder that holds the package.
        package: its name.
    """

    def __init__(self, root: Path, package: str) -> None:
        self._root, self.package = root, package
        self.files: Mapping[str, Path] = {
            _module_of(file, root): file for file in sorted((root / package).rglob("*.py"))
        }

    def room_of(self, module: str) -> str:
        """Folder of a module inside the package; a single module at the top is a room of its own."""
        file = self.files[module]
        folder = file.parent.relative_to(self._root / self.package).parts
        room = ".".join(folder) or file.stem
        return ALCOVES.get(room, room)

    @cached_property
    def imports(self) -> Mapping[str, set[str]]:
        """Modules imported anywhere in each module: at the top, in functions, for type checking only."""
        return {module: set(self._imports(file)) for module, file in self.files.items()}

    def unnamed(self, rooms: Sequence[str] = ROOMS) -> list[str]:
        """Modules in an unlisted room. The package itself is above all rooms."""
        return [m for m in self.files if m != self.package and self.room_of(m) not in rooms]

    def upward(self, rooms: Sequence[str] = ROOMS) -> list[str]:
        """Imports from a room above, each ``IMPORTER -> IMPORTED``."""
        height = {room: number for number, room in enumerate(rooms)}
        inside = {m: height[self.room_of(m)] for m in self.files if m != self.package and self.room_of(m) in height}
        return [
            f"{module} -> {other}"
            for module in inside
            for other in sorted(self.imports[module])
            if other in inside and inside[other] > inside[module]
        ]

    def circles(self) -> list[list[str]]:
        """Import cycles: sets of modules that import one another, directly or indirectly."""
        return [sorted(component) for component in _components(self.imports) if len(component) > 1]

    def _imports(self, file: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                package = f"{'.' * node.level}{node.module or ''}"
                submodules = [f"{package}.{alias.name}" for alias in node.names]
                yield from (name if name in self.files else package for name in submodules)


def _module_of(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _components(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Strongly connected components, by Kosaraju's algorithm."""
    order: list[str] = []
    visited: set[str] = set()
    for start in graph:
        _visit(start, graph, visited, order)
    backward: dict[str, set[str]] = {module: set() for module in graph}
    for module, others in graph.items():
        for other in others & graph.keys():
            backward[other].add(module)
    visited, components = set(), []
    for start in reversed(order):
        component: list[str] = []
        _visit(start, backward, visited, component)
        if component:
            components.append(set(component))
    return components


def _visit(start: str, graph: Mapping[str, set[str]], visited: set[str], order: list[str]) -> None:
    """Append the unvisited nodes reachable from ``start`` to ``order``, deepest first."""
    if start in visited:
        return
    visited.add(start)
    stack = [(start, iter(sorted(graph[start] & graph.keys())))]
    while stack:
        module, others = stack[-1]
        other = next((each for each in others if each not in visited), None)
        if other is None:
            order.append(module)
            stack.pop()
        else:
            visited.add(other)
            stack.append((other, iter(sorted(graph[other] & graph.keys()))))
