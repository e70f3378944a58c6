"""Paths in the repository that tests read."""

from pathlib import Path

SUPPORT = Path(__file__).parent
REPOSITORY = Path(__file__).parents[2]
SHIPPED_REGISTRY = REPOSITORY / "registry.db"
RELEASED_REGISTRIES = REPOSITORY / "tests" / "registry" / "released"
"""A registry of every schema version that was released, as ``vN.db``."""
