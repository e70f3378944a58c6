"""Warm start: a run begins with what was learnt on other models, and says how much that helped."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.errors import RegistryError
from prunecast.measure.setup import Setup, metrics_of
from prunecast.predict.transfer import Prior, Source, Transferred
from prunecast.problem.objective import Metrics
from prunecast.registry import Registry
from prunecast.registry.queries.pairs import Pairs, find_pairs

OWN_PAIRS = (0, 10, 25, 50)
"""Numbers of own pairs that transfer is judged at."""

DRAWS = 5
"""Random draws of own pairs that each number is a mean over."""

FEWEST_RANKED = 10
"""Pairs left to rank, at least."""


@dataclass(frozen=True)
class TransferPoint:
    """Kendall tau between predicted and measured order of the pairs that were not learnt from, mean over the draws.

    Attributes:
        own_pairs: pairs of the model itself that were learnt from.
        warm: with the pairs of other models.
        cold: without them; None if there is nothing to learn from.
    """

    own_pairs: int
    warm: float
    cold: float | None


@dataclass(frozen=True)
class WarmStart:
    """What a run began with.

    Attributes:
        sources: pairs of each other model, by its name.
        size: Kendall tau of ranking by the number of parameters alone, which needs no pair at all.
        kendall_tau: how well the run's pairs are ranked from a few of them, with the other models and without.
    """

    sources: dict[str, int]
    size: float
    kendall_tau: tuple[TransferPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def find_sources(registry: Registry, models: Sequence[str], metrics: Sequence[str], pruner: str) -> list[Source]:
    """Pairs of other models to begin with.

    Of each model those of the pruner are taken, if there are any, else those of the pruner with most pairs.

    Raises:
        RegistryError: a model has no pairs with all of ``metrics``, or its dense self was not measured beside them.
    """
    return [source_of(_pairs(registry, model, metrics, pruner)) for model in models]


def source_of(pairs: Pairs) -> Source:
    """Pairs of a model as a source for others. Raises RegistryError if its dense self was not measured."""
    lost = pairs.lost
    if lost is None:
        raise RegistryError(f"{pairs.series}: the dense model was not measured; measure {pairs.series.shape.dense}")
    dense = pairs.architectures.index(pairs.series.shape.dense)
    others = [architecture for place, architecture in enumerate(pairs.architectures) if place != dense]
    return Source(pairs.series.model, pairs.series.shape, others, np.delete(lost, dense, axis=0))


def begin_warm(setup: Setup, registry: Registry) -> None:
    """Let the predictors of a run begin with the pairs of the models its spec names, if it does."""
    if setup.spec.warm_start is not None:
        metrics = [metric.name for metric in metrics_of(setup.evaluators)]
        setup.learn_from(find_sources(registry, setup.spec.warm_start.models, metrics, setup.spec.pruner.use))


def judge_warm(setup: Setup, pairs: Mapping[Architecture, Metrics]) -> WarmStart | None:
    """How much the warm start helped; None if there was none."""
    if setup.prior is None:
        return None
    targets = setup.objective.targets(list(pairs.values()))
    return judge_transfer(
        setup.prior, list(pairs), targets, setup.objective.score, setup.spec.seed, setup.rng("transfer")
    )


def judge_transfer(
    prior: Prior,
    architectures: Sequence[Architecture],
    targets: Floats,
    score: Callable[[Floats], Floats],
    seed: int,
    rng: np.random.Generator,
    counts: Sequence[int] = OWN_PAIRS,
) -> WarmStart:
    """Rank measured architectures of a model from a few of them, with pairs of other models and without.

    Args:
        prior: what other models say.
        architectures: N of the model.
        targets: what was measured of them, shape (N, M), on the scale predictors learn.
        score: what they are ranked by, (N,) of (N, M); smaller is better.
        seed: of the predictors.
        rng: draws the own pairs; the same draws for both.
        counts: numbers of own pairs, as far as enough are left to rank.
    """
    measured = score(targets)
    orders = [rng.permutation(len(architectures)) for _ in range(DRAWS)]
    points = []
    for count in counts:
        if len(architectures) - count < FEWEST_RANKED:
            break
        warm: list[float] = []
        cold: list[float] = []
        for order in orders[: DRAWS if count else 1]:
            own, others = order[:count], order[count:]
            ranked = [architectures[i] for i in others]
            for taus, predictor in ((warm, Transferred(prior, seed)), (cold, prior.new_predictor(prior.shape))):
                if count:
                    predictor.fit([architectures[i] for i in own], targets[own])
                if count or taus is warm:
                    taus.append(_tau(score(predictor.predict(ranked).mean), measured[others]))
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

    alike = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    return 0.0 if alike else float(kendalltau(predicted, measured).statistic)
