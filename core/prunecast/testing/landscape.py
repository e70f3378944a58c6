"""A made-up model whose every architecture has known metrics, and a hidden best one.

No weight is involved: the shape, the space and the numbers are arithmetic, so that a searcher can be judged by its
regret and a predictor by pairs whose truth is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats, sizes_of
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import architectures_at, indices_of
from prunecast.architecture.shape import ComponentCost, ModelShape
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
    attention=ComponentCost(base=32, unit=512, head=512),
    mlp=ComponentCost(base=32, unit=96),
)
"""6 layers of 3 KV groups x 3 query heads, MLP width 96."""


def metrics_of(architectures: Sequence[Architecture]) -> Floats:
    """Three metrics of architectures of ``SHAPE``, shape (N, 3), each on a scale of its own.

    Layers matter differently, deep cuts hurt more than shallow ones, attention and MLP interact, and the third metric
    falls where the others rise.
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
    """``count`` different random architectures of ``SHAPE`` and their metrics, shape (count, 3)."""
    space = Steps(StepsOptions(protect=0), SHAPE)
    drawn = architectures_at(space.choices, SHAPE.dense, space.sample(2 * count, np.random.default_rng(seed)))
    architectures = list(dict.fromkeys(drawn))[:count]
    return architectures, metrics_of(architectures)


@dataclass
class KnownOptimum:
    """A search problem whose best architecture is known: an objective that is 0 there and larger everywhere else.

    The optimum is hidden at the boundary of the budget. Every step away from it, in any choice, costs something, some
    choices much more than others, and what it costs depends on the neighbouring choice too.

    Attributes:
        space: the search space; a small one of ``SHAPE`` if not given.
        share: budget, as a fraction of the dense model's parameters.
        seed: another seed, another optimum.
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
        """The objective, shape (N,), at least 0; smaller is better."""
        self.scored += len(architectures)
        return self.regret(architectures)

    def regret(self, architectures: Sequence[Architecture]) -> Floats:
        """How much worse than the optimum, shape (N,): the objective, without counting."""
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
        """What a searcher is given. ``seed`` seeds its generator."""
        rng = np.random.default_rng(seed)
        return SearchProblem(self.space, self.budget, self.score, rng, known, progress)
