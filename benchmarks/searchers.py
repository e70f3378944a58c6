"""Best predicted objective of the searchers after some seconds, on recorded pairs of two models.

Usage: ``python benchmarks/searchers.py [-h] [--model NAME] [--searcher NAME] [--seconds S ...] [--seeds N ...]``, on
one thread with ``OMP_NUM_THREADS=1``.

One Gaussian process is fitted to the logarithm of WikiText-2's divergence of all pairs of a model in registry.db.
Every searcher then minimises its prediction, within the space and the budget of the model's spec, and knows the pairs.
Seconds are processor time that the process has spent in the search, so that a machine that does other work gives
the same answer. The smallest prediction of a moment is the best of all that the searcher has had predicted until then.
A search that ends early starts again with other random numbers.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats, sizes_of
from prunecast.plugins import Metric, Searcher, SearchProblem
from prunecast.plugins.host import PluginHost
from prunecast.predict.fitted import Fitted
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Objective
from prunecast.problem.problem import Problem
from prunecast.registry import Registry
from prunecast.registry.queries.pairs import find_pairs
from prunecast.spec.load import load_spec
from prunecast_plugins.searchers.evolution import Evolution, EvolutionOptions
from prunecast_plugins.searchers.optuna import Optuna, OptunaOptions
from prunecast_plugins.searchers.random import Random, RandomOptions
from prunecast_plugins.searchers.tpe import TPE, TPEOptions

REPOSITORY = Path(__file__).parents[1]
METRIC = "wikitext2.validation.kl"
BESIDE = "wikipedia-spaced.validation.kl"
"""The other metric of the specs, which the pairs of a series have, too."""

SPECS = {"smollm2-135m": "smollm2.yaml", "gemma3-270m": "gemma3-270m.yaml"}
ENDLESS = 10**6
SEARCHERS: dict[str, Searcher[Any]] = {
    "tpe": TPE(TPEOptions(trials=ENDLESS)),
    "evolution": Evolution(EvolutionOptions(generations=ENDLESS)),
    "random": Random(RandomOptions(samples=2000)),
    "optuna CmaEsSampler": Optuna(OptunaOptions(sampler="CmaEsSampler", trials=ENDLESS)),
    "optuna NSGAIISampler": Optuna(OptunaOptions(sampler="NSGAIISampler", trials=ENDLESS)),
    "optuna TPESampler": Optuna(OptunaOptions(sampler="TPESampler", trials=ENDLESS)),
}


class TimeIsUp(Exception):
    """The last moment has passed."""


@dataclass
class Watched:
    """The prediction, which notes its smallest value at each of the ``moments``, in seconds of the processor."""

    problem: Problem
    fitted: Fitted
    moments: Sequence[float]
    best: float = np.inf
    at: dict[float, float] = field(default_factory=dict)
    began: float = field(default_factory=time.process_time)

    def score(self, architectures: Sequence[Architecture]) -> Floats:
        """Predicted objective, shape (N,). Raises TimeIsUp after the last moment."""
        spent = time.process_time() - self.began
        self.at |= {moment: self.best for moment in self.moments if moment not in self.at and moment <= spent}
        if len(self.at) == len(self.moments):
            raise TimeIsUp
        scores = self.fitted.score(architectures)
        if scores.min() < self.best:
            met = self.problem.budget.usage(sizes_of(architectures)) <= 1
            self.best = min(self.best, scores[met].min(initial=np.inf))
        return scores


def recorded(model: str) -> tuple[Problem, Measured]:
    """The problem of the model's spec, and its recorded pairs without the dense model, whose divergence is 0."""
    host = PluginHost.discover()
    with Registry.open(REPOSITORY / "registry.db", readonly=True) as registry:
        column, _ = find_pairs(registry, model, [METRIC, BESIDE]).series.columns
        pairs = find_pairs(registry, model, [METRIC], evaluators=[column.evaluator_key])
    logarithm = Objective((Metric(METRIC, "minimize", "nats", "log"),), (1.0,))
    architectures = zip(pairs.architectures, pairs.metrics, strict=True)
    measured = Measured(
        logarithm, {each: metrics for each, metrics in architectures if each != pairs.series.shape.dense}
    )
    spec = load_spec(REPOSITORY / "specs" / SPECS[model], host)
    return Problem.of(spec, host, pairs.series.shape).minimising(logarithm), measured


def best_after(
    searcher: Searcher[Any], problem: Problem, measured: Measured, fitted: Fitted, moments: Sequence[float], seed: int
) -> list[float]:
    """Smallest prediction at each of the moments, which ascend."""
    watched = Watched(problem, fitted, moments)
    known = measured.ranked(problem.budget)
    asked = SearchProblem(problem.space, problem.budget, watched.score, np.random.default_rng(seed), known)
    try:
        while True:
            searcher.search(asked, 1)
    except TimeIsUp:
        return [watched.at[moment] for moment in moments]


def main() -> None:
    """Print a table for each model: one line a searcher and seed, then the mean over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SPECS, nargs="+", default=list(SPECS))
    parser.add_argument("--searcher", choices=SEARCHERS, nargs="+", default=list(SEARCHERS))
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0, 20.0, 60.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    wanted = parser.parse_args()
    moments = sorted(wanted.seconds)
    for model in wanted.model:
        problem, measured = recorded(model)
        fitted = Fitted.on(measured, problem.predictor())
        known = fitted.score(measured.ranked(problem.budget)).min()
        print(f"{model}: {len(measured)} pairs, best known {known:.4f}; log of the predicted divergence after", end=" ")
        print(", ".join(f"{moment:g} s" for moment in moments), flush=True)
        for name in wanted.searcher:
            rows = []
            for seed in wanted.seeds:
                rows.append(best_after(SEARCHERS[name], problem, measured, fitted, moments, seed))
                print(f"  {name:22} seed {seed} " + " ".join(f"{each:8.4f}" for each in rows[-1]), flush=True)
            print(f"  {name:22} mean   " + " ".join(f"{each:8.4f}" for each in np.mean(rows, axis=0)), flush=True)


if __name__ == "__main__":
    main()
