"""Random architectures of a model."""

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import architectures_at
from prunecast.architecture.shape import ModelShape
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions


def random_architectures(shape: ModelShape, count: int, seed: int) -> list[Architecture]:
    space = Layerwise(LayerwiseOptions(attention=(0, 0.33, 0.67, 1)), shape)
    return architectures_at(space.choices, shape.dense, space.sample(count, np.random.default_rng(seed)))
