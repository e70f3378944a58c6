"""Fixtures of the benchmarks: SmolLM2-135M ready for evaluation, and a report of all ratios.

Results are ratios of two times, sizes or counts from the same run on the same machine where possible, because absolute
seconds are not comparable on a shared machine.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from bench import Bench, make_bench

if TYPE_CHECKING:
    pass

RATIOS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def bench() -> Bench:
    """SmolLM2-135M in the fastest dtype on this machine."""
    return make_bench()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A function that adds a line to the summary at the end of the run."""
    return request.config.stash.setdefault(RATIOS, []).append


@pytest.fixture
def inference() -> Iterator[None]:
    """Disable gradients during a benchmark."""
    import torch

    with torch.inference_mode():
        yield


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print all reported lines."""
    for line in config.stash.get(RATIOS, []):
        terminalreporter.write_line(line)
