"""A synthetic benchmark: a model shape with analytic metrics, and a search problem with a known optimum.

No weights are involved. A searcher can be evaluated by its regret, a predictor by pairs with exact targets.

=============  ======  =======================================================================================
symbol         shape   meaning
=============  ======  =======================================================================================
N                      number of architectures
L                      number of layers, 6 in ``SHAPE``
C                      number of choices of the search space
``width``      (N,)    cost of the removed MLP channels: sum over layers of removed share ** 1.5 times a weight
``heads``      (N,)    cost of the removed query heads: sum over layers of removed share times a weight
``away``       (N, C)  distance from the optimum in each choice, as a fraction of the choice's range
``weights``    (C,)    cost of the full distance in each choice, gamma-distributed plus 0.05
=============  ======  =======================================================================================

The objective is ``sum_c weights_c * (away_c + away_c * away_(c-1) / 2)``, 0 at the optimum; ``c - 1`` wraps around.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats, sizes_of
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import architectures_at, indices_of
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.plugins.examples.space import Steps, StepsOptions
from prunecast.plugins.interfaces import SearchProblem, SearchSpace

SHAPE = ModelShape(
    family="llama",
    dense=Architecture([(3, 3, 96)] * 6),
    hidden_size=32,
    head_dim=8,
    vocabulary=100,
    context=64,
    embeddings=3200,
    fixed=3232,
    layers=(LayerCost(ComponentCost(base=32, unit=512, head=512), ComponentCost(base=32, unit=96)),) * 6,
)
"""6 layers of 3 KV groups x 3 query heads, MLP width 96."""


def metrics_of(architectures: Sequence[Architecture]) -> Floats:
    """Three metrics of architectures of ``SHAPE``, shape (N, 3), on different scales.

    Layers have different weights, the cost of MLP pruning is superlinear, attention and MLP interact in the first
    metric, and the third metric falls where the others rise.
    """
    sizes = sizes_of(architectures)
    rng = np.random.default_rng(7)
    for_width, for_heads = rng.random((2, sizes.shape[1]))
    width = (1 - sizes[..., 2] / 96) ** 1.5 @ for_width
    heads = (1 - sizes[..., 0] * sizes[..., 1] / 9) @ for_heads
    return np.stack(
        [3 + width + heads + 0.2 * width * heads, 400 + 200 * width + 50 * heads, 0.5 - 0.1 * heads], axis=1
    )


def pairs(count: int, seed: int) -> tuple[list[Architecture], Floats]:
    """``count`` distinct random architectures of ``SHAPE``, and their metrics of shape (count, 3)."""
    space = Steps(StepsOptions(protect=0), SHAPE)
    drawn = architectures_at(space.choices, SHAPE.dense, space.sample(2 * count, np.random.default_rng(seed)))
    architectures = list(dict.fromkeys(drawn))[:count]
    return architectures, metrics_of(architectures)


@dataclass
class KnownOptimum:
    """A search problem with a known optimum: the objective is 0 there and positive everywhere else.

    The optimum lies at the boundary of the budget. The objective grows with the distance in every choice, with very
    different weights, and neighbouring choices interact.

    Attributes:
        space: the search space; by default a small space of ``SHAPE``.
        share: budget, as a fraction of the dense model's parameters.
        seed: seed of the optimum and of the weights of the objective.
        scored: number of architectures that have been scored so far.
    """

    space: SearchSpace[Any] = field(default_factory=lambda: Steps(StepsOptions(), SHAPE))
    share: float = 0.7
    seed: int = 0
    scored: int = 0

    @cached_property
    def budget(self) -> Budget:
        """The budget of the problem."""
        return Budget.of(self.space.shape, {"parameters": self.share})

    @cached_property
    def optimum(self) -> Architecture:
        """The best architecture that meets the budget."""
        rng, choices = np.random.default_rng([self.seed, 1]), self.space.choices
        hidden = self.budget.fit(choices, SearchSpace.sample(self.space, 1, rng), rng)
        return architectures_at(choices, self.space.shape.dense, hidden)[0]

    def score(self, architectures: Sequence[Architecture]) -> Floats:
        """Objective of N architectures, shape (N,), at least 0; smaller is better. Counts them in ``scored``."""
        self.scored += len(architectures)
        return self.regret(architectures)

    def regret(self, architectures: Sequence[Architecture]) -> Floats:
        """Objective of N architectures minus that of the optimum, which is 0; shape (N,). Not counted in ``scored``.

        Raises:
            ValueError: the space cannot express an architecture.
        """
        choices, dense = self.space.choices, self.space.shape.dense
        rows = [indices_of(choices, dense, architecture) for architecture in [self.optimum, *architectures]]
        if any(row is None for row in rows):
            raise ValueError("an architecture that the space cannot express has no regret")
        indices = np.array(rows, dtype=np.float64)
        tops = np.array([len(choice.values) - 1 for choice in choices])
        away = np.abs(indices[1:] - indices[0]) / tops
        weights = np.random.default_rng([self.seed, 2]).gamma(1.0, size=len(choices)) + 0.05
        return np.asarray(away @ weights + 0.5 * (away * np.roll(away, 1, axis=1)) @ weights, dtype=np.float64)

    def problem(
        self, seed: int = 0, known: Sequence[Architecture] = (), progress: Callable[[int], None] = lambda scored: None
    ) -> SearchProblem:
        """Problem to pass to a searcher; ``seed`` seeds its generator."""
        rng = np.random.default_rng(seed)
        return SearchProblem(self.space, self.budget, self.score, rng, known, progress)
