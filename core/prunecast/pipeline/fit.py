"""The fitting stage: a predictor on all pairs, and how good it is on pairs that it has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecast.architecture import Architecture
from prunecast.interfaces import Floats, Predictor
from prunecast.pipeline.objective import Objective
from prunecast.pipeline.setup import Setup

SPLITS = 3
HELD_OUT = 0.3
"""The paper's 7:3 split (arXiv 2309.09507, section 4), here averaged over several random ones."""


@dataclass(frozen=True)
class Quality:
    """How well a predictor ranks and explains the objective on held-out pairs, mean over the splits.

    Attributes:
        pairs: number of pairs in all.
        r2: coefficient of determination, at most 1; NaN-free: None if too few pairs to hold any out.
        kendall_tau: rank correlation in [-1, 1], or None.
    """

    pairs: int
    r2: float | None
    kendall_tau: float | None


@dataclass(frozen=True)
class Fitted:
    """A predictor fitted on all pairs, with its objective."""

    predictor: Predictor[Any]
    objective: Objective

    def score(self, architectures: Sequence[Architecture]) -> Floats:
        """Predicted objective, shape (N,); smaller is better."""
        return self.objective.score(self.predictor.predict(architectures).mean)

    def metrics(self, architectures: Sequence[Architecture]) -> list[dict[str, float]]:
        """Predicted metrics by name."""
        return self.objective.metrics_of(self.predictor.predict(architectures).mean)


def fit(setup: Setup, pairs: Mapping[Architecture, Mapping[str, float]]) -> Fitted:
    """Fit the spec's predictor on all pairs."""
    predictor = setup.new_predictor()
    predictor.fit(list(pairs), setup.objective.targets(list(pairs.values())))
    return Fitted(predictor, setup.objective)


def judge(setup: Setup, pairs: Mapping[Architecture, Mapping[str, float]]) -> Quality:
    """Judge the spec's predictor on held-out pairs, fitted on the others."""
    architectures, targets = list(pairs), setup.objective.targets(list(pairs.values()))
    held_out = round(len(architectures) * HELD_OUT)
    if held_out < 3:
        return Quality(len(architectures), None, None)
    rng = setup.rng("judge", len(architectures))
    orders = [rng.permutation(len(architectures)) for _ in range(SPLITS)]
    scores = [_split_scores(setup, architectures, targets, order[held_out:], order[:held_out]) for order in orders]
    r2, tau = np.mean(scores, axis=0)
    return Quality(len(architectures), float(r2), float(tau))


def _split_scores(
    setup: Setup, architectures: list[Architecture], targets: Floats, seen: "np.ndarray", unseen: "np.ndarray"
) -> tuple[float, float]:
    from scipy.stats import kendalltau
    from sklearn.metrics import r2_score

    predictor = setup.new_predictor()
    predictor.fit([architectures[i] for i in seen], targets[seen])
    predicted = setup.objective.score(predictor.predict([architectures[i] for i in unseen]).mean)
    measured = setup.objective.score(targets[unseen])
    tau = float(kendalltau(measured, predicted).statistic)
    return float(r2_score(measured, predicted)), tau if np.isfinite(tau) else 0.0
