"""The choosing stage: which of the architectures a search came up with a round measures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.encodings import distances
from prunecast.architecture.shape import ModelShape
from prunecast.predict.fitted import Fitted
from prunecast.spec.model import ChooseSpec

Rule = Literal["greedy", "confidence", "spread"]


def choose(
    pool: Sequence[Architecture], fitted: Fitted, shape: ModelShape, options: ChooseSpec, count: int
) -> list[Architecture]:
    """Up to ``count`` of the pool, by the rule of the options, in the order they were chosen.

    ``greedy`` takes the best predicted. ``confidence`` takes the smallest lower confidence bounds, mean - width x std,
    one after the other; what has been chosen makes the like of it less uncertain, and so less attractive: a cheap
    stand-in for fitting again after each with its own prediction (kriging believer, Ginsbourger et al. 2010, section
    3.2). ``spread`` takes the best predicted in each of ``count`` equal intervals of the parameter count, as the paper
    does with its 18 (arXiv 2309.09507, section 4).
    """
    rules: Mapping[Rule, Callable[[], list[int]]] = {
        "greedy": lambda: np.argsort(fitted.score(pool), kind="stable")[:count].tolist(),
        "confidence": lambda: _confident(*fitted.bounds(pool), distances(pool, pool, shape), options, count),
        "spread": lambda: _spread(fitted.score(pool), shape.count(list(pool)).astype(np.float64), count),
    }
    return [pool[position] for position in rules[options.rule]()] if pool else []


def _confident(mean: Floats, std: Floats, apart: Floats, options: ChooseSpec, count: int) -> list[int]:
    """Positions by their confidence bounds, each std shrunk by what has been chosen before.

    In hope (width above 0) what a std promises shrinks with it; in caution what is known anyway is charged that much
    more, so that either way the like of what has been chosen comes later.

    Of two architectures whose errors correlate by r, measuring one leaves the other a deviation of std x sqrt(1 - r^2).
    Correlation falls with the distance d as exp(-d^2 / 2 reach^2), reach in mean distances of the pool.
    """
    reach = max(options.reach * float(apart.mean()), np.finfo(np.float64).tiny)
    correlation = np.exp(-0.5 * (apart / reach) ** 2)
    left = np.ones(len(mean))
    chosen: list[int] = []
    for _ in range(min(count, len(mean))):
        bound = mean - options.width * std + abs(options.width) * std * (1 - left)
        bound[chosen] = np.inf
        chosen.append(int(np.argmin(bound)))
        left = np.minimum(left, np.sqrt(1 - correlation[chosen[-1]] ** 2))
    return chosen


def _spread(score: Floats, parameters: Floats, count: int) -> list[int]:
    edges = np.linspace(parameters.min(), parameters.max(), count + 1)
    interval = np.clip(np.searchsorted(edges, parameters, side="right") - 1, 0, count - 1)
    members = (np.flatnonzero(interval == i) for i in range(count))
    return [int(inside[np.argmin(score[inside])]) for inside in members if len(inside)]
