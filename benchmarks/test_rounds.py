"""Comparison of acquisition strategies on the recorded pairs of SmolLM2-135M as a finite pool.

Each game starts from 20 random pairs that are worse than the median. In every round the predictor is fitted to the
known pairs, the strategy selects 5 others, and their measured values are added. The score is the simple regret: the
distance of the best known pair from the best of all pairs, in nats of the sum of both log-perplexities, mean over
rounds and games.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prunecast.plugins import Metric
from prunecast.predict.fitted import Fitted
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Objective
from prunecast.registry import Registry
from prunecast.registry.queries.pairs import find_pairs
from prunecast.search.acquisition import acquire
from prunecast.spec.model import ChooseSpec
from prunecast_plugins.predictors.gp import GP, GPOptions

METRICS = ["wikitext2.validation.ppl", "ptb.validation.ppl"]
OBJECTIVE = Objective(tuple(Metric(name, "minimize", "perplexity", "log") for name in METRICS), (1.0, 1.0))
GAMES, ROUNDS, START, PER_ROUND = 12, 6, 20, 5
REGISTRY = Path(__file__).parents[1] / "registry.db"


def regrets(options: ChooseSpec) -> list[float]:
    """Mean regret of each game."""
    with Registry.open(REGISTRY, readonly=True) as registry:
        pairs = find_pairs(registry, "smollm2-135m", METRICS)
    undone = [i for i, a in enumerate(pairs.architectures) if a != pairs.series.shape.dense]
    architectures, targets = [pairs.architectures[i] for i in undone], Measured.of_pairs(pairs).targets[undone]
    score, position = OBJECTIVE.score(targets), {a: i for i, a in enumerate(architectures)}
    bad = np.flatnonzero(score > np.median(score))
    found = []
    for game in range(GAMES):
        known = np.random.default_rng(game).choice(bad, START, replace=False).tolist()
        left = []
        for _ in range(ROUNDS):
            predictor = GP(GPOptions(), pairs.series.shape, game)
            predictor.fit([architectures[i] for i in known], targets[known])
            pool = [a for i, a in enumerate(architectures) if i not in known]
            chosen = acquire(pool, Fitted(predictor, OBJECTIVE), pairs.series.shape, options, PER_ROUND)
            known += [position[a] for a in chosen]
            left.append(float(score[known].min() - score.min()))
        found.append(float(np.mean(left)))
    return found


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_confidence_against_greedy(width: float, report: Callable[[str], None]) -> None:
    greedy, confident = (regrets(ChooseSpec(rule=rule, width=width)) for rule in ("greedy", "confidence"))
    better = sum(c <= g for c, g in zip(confident, greedy, strict=True))
    report(f"regret of confidence (width {width:g}) / greedy, nats  {np.mean(confident):.3f} / {np.mean(greedy):.3f}")
    report(f"games in which confidence is at least as good     {better} of {GAMES}")
