"""Fixtures for the tests of a plugin; pytest finds them by itself wherever prunecast is installed.

They are imported when a test asks for one, so a test run without them pays nothing:

- ``tiny_models``: maker of tiny random models by family, ``tiny_models("qwen2")``.
- ``known_optimum``: a search problem whose best architecture is known, to judge a searcher by its regret.
- ``recorded_pairs``: real measurements of SmolLM2-135M, to judge a predictor by.
- ``tiny_registry``: an open registry of its own with those measurements in it.
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
    """A registry in a file of its own that holds the recorded pairs, measured under a pruner called ``recorded``."""
    from prunecast.registry import Registry
    from prunecast.testing.recorded import record_pairs

    with Registry.open(tmp_path / "registry.db") as registry:
        record_pairs(registry)
        yield registry
