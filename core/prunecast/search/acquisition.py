"""Acquisition: the choice of the proposals of a search that a round measures.

Notation:
    mu, sigma   mean and standard deviation of the predicted objective, shape (N,)
    kappa       standard deviations between the mean and the lower confidence bound (``choose.width`` of a spec)
    d           distances between proposals, shape (N, N)
    ell         correlation length: ``choose.reach`` of a spec, the diversity, times the mean of d
    rho         correlation of the errors of two proposals, exp(-d^2 / 2 ell^2)
    u           share of sigma that remains after the points chosen before, in [0, 1], shape (N,)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.encodings import distances
from prunecast.architecture.shape import ModelShape
from prunecast.predict.fitted import Fitted
from prunecast.spec.model import ChooseSpec

Strategy = Literal["greedy", "confidence", "spread"]


def acquire(
    pool: Sequence[Architecture],
    fitted: Fitted,
    shape: ModelShape,
    options: ChooseSpec,
    count: int,
    pending: Sequence[Architecture] = (),
) -> list[Architecture]:
    """Up to ``count`` architectures of the pool, by the strategy of the options (``choose.rule``), in order.

    ``greedy`` takes the best predicted. ``confidence`` takes the smallest lower confidence bounds one after the other;
    choosing a point lowers the uncertainty of similar points, which diversifies the batch. It is a cheap substitute for
    fitting again with the prediction after each point (kriging believer, Ginsbourger et al. 2010, section 3.2).
    ``spread`` takes the best predicted in each of ``count`` equal intervals of the parameter count, as the paper does
    with its 18 (arXiv 2309.09507, section 4).

    Architectures in ``pending`` are being measured. They count as chosen before, so that no similar ones are chosen.
    """
    strategies: Mapping[Strategy, Callable[[], list[int]]] = {
        "greedy": lambda: np.argsort(fitted.score(pool), kind="stable")[:count].tolist(),
        "confidence": lambda: _confidence_bounds(
            *fitted.bounds(pool),
            apart=distances(pool, pool, shape),
            from_pending=distances(pool, pending, shape) if pending else np.empty((len(pool), 0)),
            options=options,
            count=count,
        ),
        "spread": lambda: _spread(fitted.score(pool), shape.count(list(pool)).astype(np.float64), count),
    }
    return [pool[position] for position in strategies[options.rule]()] if pool else []


def _confidence_bounds(
    mean: Floats, std: Floats, *, apart: Floats, from_pending: Floats, options: ChooseSpec, count: int
) -> list[int]:
    """Positions of the smallest confidence bounds mu - kappa sigma, chosen one after the other.

    After one of two architectures whose errors correlate by rho is measured, the other keeps a standard deviation
    of sigma sqrt(1 - rho^2). Positive kappa is optimistic: the bonus decays near chosen points. Negative kappa is
    pessimistic: the penalty grows near them. Both put similar architectures later.
    """
    kappa = options.width
    length = max(options.reach * float(apart.mean()), np.finfo(np.float64).tiny)
    correlation = np.exp(-0.5 * (apart / length) ** 2)
    with_pending = np.exp(-0.5 * (from_pending / length) ** 2)
    left = np.sqrt(1 - with_pending.max(axis=1, initial=0.0) ** 2)
    chosen: list[int] = []
    for _ in range(min(count, len(mean))):
        bound = mean - kappa * std + abs(kappa) * std * (1 - left)
        bound[chosen] = np.inf
        chosen.append(int(np.argmin(bound)))
        left = np.minimum(left, np.sqrt(1 - correlation[chosen[-1]] ** 2))
    return chosen


def _spread(score: Floats, parameters: Floats, count: int) -> list[int]:
    """Positions of the best score in each of ``count`` equal intervals of the parameter count; empty ones have none."""
    edges = np.linspace(parameters.min(), parameters.max(), count + 1)
    interval = np.clip(np.searchsorted(edges, parameters, side="right") - 1, 0, count - 1)
    members = (np.flatnonzero(interval == i) for i in range(count))
    return [int(each[np.argmin(score[each])]) for each in members if len(each)]
