"""Pytest fixtures for the tests of plugins, registered with pytest when prunecast is installed.

- ``tiny_models``: factory of tiny random models by family, e.g. ``tiny_models("qwen2")``.
- ``known_optimum``: a search problem with a known best architecture, to evaluate a searcher by its regret.
- ``recorded_pairs``: measured pairs of SmolLM2-135M, to evaluate a predictor.
- ``tiny_registry``: an open temporary registry that holds these pairs.

Each fixture imports its implementation only when a test requests it, so other test runs are not slowed down.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from prunecast.registry import Registry
    from prunecast.testing.landscape import KnownOptimum
    from prunecast.testing.recorded import RecordedPairs


@pytest.fixture
def tiny_models() -> Callable[..., Any]:
    """:func:`prunecast.testing.tiny_model`."""
    from prunecast.testing.models import tiny_model

    return tiny_model


@pytest.fixture
def known_optimum() -> "KnownOptimum":
    """:class:`prunecast.testing.KnownOptimum` with its defaults."""
    from prunecast.testing.landscape import KnownOptimum

    return KnownOptimum()


@pytest.fixture
def recorded_pairs() -> "RecordedPairs":
    """:func:`prunecast.testing.recorded_pairs`."""
    from prunecast.testing import recorded

    return recorded.recorded_pairs()


@pytest.fixture
def tiny_registry(tmp_path: Path) -> "Iterator[Registry]":
    """An open registry in a temporary file that holds the recorded pairs, stored under a pruner called ``recorded``."""
    from prunecast.registry import Registry
    from prunecast.testing.recorded import record_pairs

    with Registry.open(tmp_path / "registry.db") as registry:
        record_pairs(registry)
        yield registry
