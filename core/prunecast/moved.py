"""Former module names: importing one fails with the name that replaces it."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "budget": "architecture.budget",
    "choices": "architecture.choices",
    "encodings": "architecture.encodings",
    "events": "plugins",
    "examples": "plugins.examples",
    "hookspecs": "plugins",
    "importers": "architecture.formats",
    "interfaces": "plugins",
    "isolation": "plugins.isolation",
    "models.adapters": "recover.adapters",
    "models.allocation": "models.cpu.allocation",
    "models.attention": "models.cpu.attention",
    "models.float64": "models.units",
    "models.head": "models.families.head",
    "models.norms": "models.cpu.norms",
    "models.reuse": "models.activation_reuse",
    "models.steps": "models.sensitivity",
    "pipeline": "run",
    "reference": "predict.transfer",
    "registry.budgets": "registry.queries.ranges",
    "registry.cleaning": "registry.upkeep.clean",
    "registry.comparison": "registry.queries.compare_runs",
    "registry.database": "registry.sqlite.database",
    "registry.exchange": "registry.sharing.records",
    "registry.file_systems": "registry.sqlite.file_systems",
    "registry.files": "registry.sharing.files",
    "registry.keys": "keys",
    "registry.likeness": "registry.queries.nearest",
    "registry.merging": "registry.sharing.merge",
    "registry.pairs": "registry.queries.pairs",
    "registry.pareto": "registry.queries.pareto",
    "registry.publishing": "registry.sharing.publish",
    "registry.reference": "registry.schema.documentation",
    "registry.selection": "registry.queries.selection",
    "registry.series": "registry.queries.series",
    "registry.shown": "registry.queries.show",
    "registry.times": "registry.records",
    "registry.verify": "registry.upkeep.verify",
    "registry.views": "registry.schema.views",
    "shape": "architecture.shape",
    "testing.elsewhere": "testing.subprocesses",
    "testing.laws": "testing.checks",
    "transfer": "predict.transfer",
}
"""Former names of modules with their successors, all inside prunecast."""


class _Finder(MetaPathFinder):
    """Asked last, for modules that no other finder knows."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for any other module. Raises ModuleNotFoundError, with the new name, for a former one."""
        package, _, name = fullname.partition(".")
        if package == "prunecast" and name in MOVED:
            raise ModuleNotFoundError(
                f"{fullname} is now prunecast.{MOVED[name]}; plugins import everything from prunecast.plugins",
                name=fullname,
            )
        return None


def install() -> None:
    """Install the finder, once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
