"""SmolLM2-135M ready to be measured, and a place where benchmarks say their ratios.

Everything is a ratio of two times, sizes or counts taken in the same run on the same machine: seconds alone say nothing
on a shared one.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from prunecast.architecture.architecture import Architecture
from prunecast.compare.uniform import uniform
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.spec.load import parse_spec

if TYPE_CHECKING:
    from prunecast.models.elastic import ElasticModel

SPEC = """
model: {source: smollm2-135m}
space: {use: layerwise, layers: "3:28"}
pruner: {use: magnitude}
evaluators: [{use: perplexity, dataset: python-docs, tokens: 4096, context: 512}]
predictor: {use: gbdt}
searcher: {use: random}
budget: {parameters: 0.75}
"""
ROUNDS = 5
RATIOS = pytest.StashKey[list[str]]()


@dataclass(frozen=True)
class Bench:
    """The elastic model of SmolLM2-135M, an evaluator of 4,096 tokens, and a uniform cut of the MLPs to 75 %."""

    setup: Setup
    architecture: Architecture

    @cached_property
    def elastic(self) -> "ElasticModel":
        """The elastic model, ranked by magnitude."""
        return build_elastic(self.setup, Progress(quiet=True))

    @property
    def evaluator(self) -> Any:
        """Perplexity on 4,096 tokens in windows of 512."""
        return self.setup.evaluators[0].evaluator


@pytest.fixture(scope="session")
def bench() -> Bench:
    """SmolLM2-135M in the fastest number format of this machine."""
    return make_bench()


def make_bench() -> Bench:
    """A bench of its own, its model not loaded yet."""
    setup = Setup(parse_spec(SPEC, PluginHost.discover()), PluginHost.discover())
    problem = setup.problem
    limit = problem.budget.limits["parameters"]
    return Bench(setup, uniform(setup.shape, problem.space.choices, limit, attention=False))


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line in the summary at the end of the run."""
    return request.config.stash.setdefault(RATIOS, []).append


@pytest.fixture
def inference() -> Iterator[None]:
    """Benchmarks run without gradients."""
    import torch

    with torch.inference_mode():
        yield


def medians(*actions: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each action, taken in turn so that a slow spell of the machine falls on all of them."""
    for action in actions:
        action()
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, taken in zip(actions, seconds, strict=True):
            start = time.perf_counter()
            action()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say all ratios together."""
    for line in config.stash.get(RATIOS, []):
        terminalreporter.write_line(line)
