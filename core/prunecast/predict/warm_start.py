"""Warm start: a run begins with pairs of other models, and the benefit is evaluated on its own pairs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.errors import RegistryError
from prunecast.plugins.interfaces import Predictor
from prunecast.predict.transfer import Prior, Source, Transferred
from prunecast.problem.measured import Measured
from prunecast.problem.problem import Problem
from prunecast.registry import Registry
from prunecast.registry.queries.pairs import Pairs, find_pairs
from prunecast.spec.model import Spec

OWN_PAIRS = (0, 10, 25, 50)
"""Numbers of own pairs at which transfer is evaluated."""

DRAWS = 5
"""Random draws of own pairs that each number is a mean over."""

FEWEST_RANKED = 10
"""Pairs left to rank, at least."""


@dataclass(frozen=True)
class TransferPoint:
    """Kendall tau between predicted and measured order of the pairs that were not learned from, mean over the draws.

    Attributes:
        own_pairs: number of pairs of the model itself that were learned from.
        warm: tau with the pairs of other models.
        cold: tau without them; None if there is nothing to learn from.
    """

    own_pairs: int
    warm: float
    cold: float | None


@dataclass(frozen=True)
class WarmStart:
    """The other models that a run began with, and their benefit.

    Attributes:
        sources: number of pairs of each other model, by its name.
        size: Kendall tau of ranking by the number of parameters alone, which needs no pair at all.
        kendall_tau: tau of ranking the run's pairs from a few of them, with the other models and without.
    """

    sources: dict[str, int]
    size: float
    kendall_tau: tuple[TransferPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def prior_of(spec: Spec, problem: Problem, registry: Registry) -> Prior | None:
    """The pairs of the models of a spec's warm start, as a prior for the predictors of its problem; None without one.

    The pairs of each model are those of a pruner with the name of the spec's if there are any, else those of the pruner
    with most pairs.

    Raises:
        RegistryError: a model has no pairs with all metrics of the objective, or its dense model was not measured.
    """
    models = spec.warm_start.models if spec.warm_start else ()
    if not models:
        return None
    metrics = [metric.name for metric in problem.objective.metrics]
    sources = [source_of(_pairs(registry, model, metrics, spec.pruner.use)) for model in models]
    return Prior(problem.new_predictor, problem.shape, sources)


def warm_started(problem: Problem, prior: Prior) -> Problem:
    """The problem with predictors that begin with a prior."""
    return replace(problem, warm_predictor=lambda: Transferred(prior))


def source_of(pairs: Pairs) -> Source:
    """Pairs of a model as a source for others. Raises RegistryError if its dense model was not measured."""
    dense = pairs.series.shape.dense
    lost = Measured.of_pairs(pairs).relative_to(dense)
    if lost is None:
        raise RegistryError(f"{pairs.series}: the dense model was not measured; measure {dense}")
    place = pairs.architectures.index(dense)
    others = [architecture for architecture in pairs.architectures if architecture != dense]
    return Source(pairs.series.model, pairs.series.shape, others, np.delete(lost, place, axis=0))


def evaluate_warm_start(prior: Prior, problem: Problem, measured: Measured) -> WarmStart:
    """Benefit of a prior for ranking what a run has measured."""
    return evaluate_transfer(
        prior, measured.architectures, measured.targets, measured.objective.score, problem.rng("transfer")
    )


def evaluate_transfer(
    prior: Prior,
    architectures: Sequence[Architecture],
    targets: Floats,
    score: Callable[[Floats], Floats],
    rng: np.random.Generator,
    counts: Sequence[int] = OWN_PAIRS,
) -> WarmStart:
    """Rank measured architectures of a model from a few of them, with pairs of other models and without.

    Ranking by the parameter count is the reference that needs no pair.

    Args:
        prior: knowledge from other models.
        architectures: N of the model.
        targets: their measured metrics, shape (N, M), on the scale predictors learn.
        score: objective that they are ranked by, (N,) of (N, M); smaller is better.
        rng: draws the own pairs; the same draws with the prior and without.
        counts: numbers of own pairs, ascending, as far as enough are left to rank.

    Returns:
        The size of the prior, the tau of the reference, and a point for each of ``counts`` that leaves
        :data:`FEWEST_RANKED` pairs or more to rank.
    """
    measured = score(targets)

    def tau_of(predictor: Predictor[Any], own: NDArray[np.int64], others: NDArray[np.int64]) -> float:
        """Tau of ranking the pairs at ``others`` by a predictor fitted on those at ``own``, if there are any."""
        if len(own):
            predictor.fit([architectures[i] for i in own], targets[own])
        predicted = predictor.predict([architectures[i] for i in others]).mean
        return _tau(score(predicted), measured[others])

    orders = [rng.permutation(len(architectures)) for _ in range(DRAWS)]
    points = []
    for count in counts:
        if len(architectures) - count < FEWEST_RANKED:
            break
        # Without own pairs every draw is the same, and without the prior there is nothing to learn from.
        splits = [(order[:count], order[count:]) for order in orders[: DRAWS if count else 1]]
        warm = [tau_of(Transferred(prior), own, others) for own, others in splits]
        cold = [tau_of(prior.new_predictor(prior.shape), own, others) for own, others in splits if count]
        points.append(TransferPoint(count, float(np.mean(warm)), float(np.mean(cold)) if cold else None))
    parameters = prior.shape.count(list(architectures))
    sources = {source.model: len(source.architectures) for source in prior.sources}
    return WarmStart(sources, _tau(-parameters.astype(np.float64), measured), tuple(points))


def _pairs(registry: Registry, model: str, metrics: Sequence[str], pruner: str) -> Pairs:
    try:
        return find_pairs(registry, model, metrics, pruner)
    except RegistryError:
        return find_pairs(registry, model, metrics)


def _tau(predicted: Floats, measured: Floats) -> float:
    from scipy.stats import kendalltau

    constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    return 0.0 if constant else float(kendalltau(predicted, measured).statistic)
