"""A medium-sized model shape, and a known target function of its architectures."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from prunecast.architecture.architecture import Architecture, sizes_of
from prunecast.architecture.shape import ModelShape
from prunecast.testing.landscape import SHAPE


@pytest.fixture
def shape() -> ModelShape:
    """12 layers of 3 KV groups x 3 heads, width 96."""
    return replace(SHAPE, dense=Architecture(SHAPE.dense.layers * 2), layers=SHAPE.layers * 2)


@pytest.fixture
def truth(shape: ModelShape) -> Callable[[Sequence[Architecture]], np.ndarray]:
    """Two metrics, shape (N, 2): layers matter differently, deep cuts hurt more, attention and MLP interact."""
    rng = np.random.default_rng(7)
    for_mlp, for_heads = rng.random(12), rng.random(12)

    def measure(architectures: Sequence[Architecture]) -> np.ndarray:
        sizes = sizes_of(architectures)
        mlp = (1 - sizes[..., 2] / 96) ** 1.5 @ for_mlp
        heads = (1 - sizes[..., 0] * sizes[..., 1] / 9) @ for_heads
        return np.stack([3 + mlp + heads + 0.2 * mlp * heads, 4 + 2 * mlp + 0.5 * heads], axis=1)

    return measure
