"""Loss in quality of overlapping rounds against complete ones, on recorded pairs.

Usage: ``python benchmarks/overlapping.py [SEED...]``, on one thread with ``OMP_NUM_THREADS=1``; five seeds if none is
given.

A Gaussian process fitted to the logarithm of WikiText-2's divergence of all pairs of SmolLM2-135M in registry.db stands
in for measuring. Searches begin with the same 30 of these pairs and propose 64 architectures for eight workers, whose
measurements take a lognormal time with a mean of 10 s. For each share of a round that is awaited (``refit_after``; 1 is
complete rounds) a line has the best objective of the proposals, the mean of all of them, and the time until all have
been measured.
"""

import heapq
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from searchers import METRIC, REPOSITORY, SPECS, recorded

from prunecast.architecture.architecture import Architecture
from prunecast.plugins.host import PluginHost
from prunecast.predict.fitted import Fitted, fit
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Metrics
from prunecast.problem.problem import Problem
from prunecast.progress import Progress
from prunecast.search.asynchronous import OverlappingRounds
from prunecast.spec.load import load_spec
from prunecast.spec.model import Spec

MODEL = "smollm2-135m"
START, WORKERS, PER_ROUND, ROUNDS = 30, 8, 16, 4
SHARES = (1.0, 0.5, 0.25)
MEAN_SECONDS, SIGMA = 10.0, 0.6


@dataclass
class Outcome:
    """Objectives of the proposals in the order in which they were measured, and simulated seconds."""

    scores: list[float]
    seconds: float


def measured_by(truth: Fitted, architectures: Sequence[Architecture]) -> dict[Architecture, Metrics]:
    """Metrics that the stand-in gives."""
    values = np.exp(truth.score(architectures)).tolist() if architectures else []
    return {each: {METRIC: value} for each, value in zip(architectures, values, strict=True)}


def outcome(problem: Problem, start: Measured, truth: Fitted, spec: Spec, host: PluginHost) -> Outcome:
    """Rounds on simulated workers, which take the tasks in order as they become free."""
    rng = problem.rng("seconds")
    rounds = OverlappingRounds(
        problem,
        spec.searcher.instance(host),
        start,
        spec,
        lambda measured, _: fit(problem, measured),
        Progress(quiet=True),
    )
    found: dict[Architecture, Metrics] = {}
    free, out, now = [0.0] * WORKERS, list[tuple[float, int, Architecture]](), 0.0
    while True:
        while (proposed := rounds.propose(PER_ROUND, found, ())) is not None:
            for number, each in enumerate(proposed[1], len(found) + len(out)):
                begin = max(now, heapq.heappop(free))
                end = begin + MEAN_SECONDS * float(np.exp(SIGMA * rng.standard_normal() - SIGMA**2 / 2))
                heapq.heappush(free, end)
                heapq.heappush(out, (end, number, each))
        if not out:
            break
        now, _, first = heapq.heappop(out)
        found |= measured_by(truth, [first])
    return Outcome([float(np.log(each[METRIC])) for each in found.values()], now)


def main(seeds: Sequence[int]) -> None:
    """Print a line for each seed and share, then the means."""
    host = PluginHost.discover()
    problem, pairs = recorded(MODEL)
    truth = Fitted.on(pairs, problem.predictor())
    everywhere = measured_by(truth, pairs.architectures)
    settings = ["neighbours=0", f"rounds={ROUNDS}", f"per_round={PER_ROUND}"]
    rows: dict[float, list[tuple[float, float, float]]] = {share: [] for share in SHARES}
    for seed in seeds:
        chosen = np.random.default_rng(seed).permutation(len(pairs))[:START]
        start = Measured(pairs.objective, {pairs.architectures[i]: everywhere[pairs.architectures[i]] for i in chosen})
        for share in SHARES:
            spec = load_spec(
                REPOSITORY / "specs" / SPECS[MODEL], host, [*settings, f"refit_after={share}", f"seed={seed}"]
            )
            result = outcome(replace(problem, seed=seed), start, truth, spec, host)
            rows[share].append((min(result.scores), float(np.mean(result.scores)), result.seconds))
            best, mean, seconds = rows[share][-1]
            print(
                f"seed {seed} refit_after {share:4}: {len(result.scores)} measured, "
                f"best {best:8.4f}, mean {mean:8.4f}, {seconds:5.0f} s",
                flush=True,
            )
    for share, of_share in rows.items():
        best, mean, seconds = np.mean(of_share, axis=0)
        print(f"mean   refit_after {share:4}: best {best:8.4f}, mean {mean:8.4f}, {seconds:5.0f} s")


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or list(range(5)))
