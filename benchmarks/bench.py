"""SmolLM2-135M ready to be measured, and medians of times taken in turn."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prunecast.compare.uniform import uniform
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import Setup
from prunecast.plugins import Architecture
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


@dataclass(frozen=True)
class Bench:
    """The elastic model of SmolLM2-135M, an evaluator on 4,096 tokens, and uniform MLP pruning to 75 %."""

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


def make_bench() -> Bench:
    """A new bench, whose model is loaded on first use."""
    setup = Setup(parse_spec(SPEC, PluginHost.discover()), PluginHost.discover())
    problem = setup.problem
    limit = problem.budget.limits["parameters"]
    return Bench(setup, uniform(setup.shape, problem.space.choices, limit, attention=False))


def medians(*actions: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each action; actions alternate, so that a slow period of the machine affects all of them."""
    for action in actions:
        action()
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, taken in zip(actions, seconds, strict=True):
            start = time.perf_counter()
            action()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]
