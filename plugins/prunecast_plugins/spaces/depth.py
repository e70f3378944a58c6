"""The depth space: which layers stay."""

from functools import cached_property

import numpy as np
from pydantic import Field

from prunecast.plugins import WHOLE_LAYERS, Choice, Indices, ModelError, ModelShape, PluginOptions, SearchSpace
from prunecast_plugins.spaces.layers import LayerRange, layers_in


class DepthOptions(PluginOptions):
    """Options of the depth space."""

    layers: LayerRange = Field(
        default="1:-1", description="layers that may go, 'start:stop' as in Python; at least one of the others stays"
    )
    block: int = Field(default=1, ge=1, description="number of neighbouring layers that go together")


class Depth(SearchSpace[DepthOptions]):
    """One choice for every layer, or every ``block`` neighbouring layers: it stays as it is, or goes as a whole.

    What is left is a model of fewer layers, which the class of the dense model builds, too.
    """

    options_model = DepthOptions

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Choices of whole layers, first layer first."""
        return whole_layers(self.options, self.shape)

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Samples of :func:`sample_layers`."""
        return sample_layers(len(self.choices), count, rng)


def whole_layers(options: DepthOptions, shape: ModelShape, option: str = "space") -> tuple[Choice, ...]:
    """Choices of whole layers. A layer that has been removed before is in none.

    Args:
        options: which layers.
        shape: the dense model.
        option: where a spec has the options.

    Raises:
        ModelError: the model does not have the layers, or none of its layers would have to stay.
    """
    covered = layers_in(options.layers, shape, f"{option}.layers")
    filled = [layer for layer, sizes in enumerate(shape.dense.layers) if any(sizes)]
    if set(filled) <= set(covered):
        raise ModelError(
            f"{option}.layers {options.layers!r} lets all {len(filled)} layers go: leave one out, e.g. '1:-1'"
        )
    blocks = [covered[start : start + options.block] for start in range(0, len(covered), options.block)]
    left = [tuple(layer for layer in block if layer in filled) for block in blocks]
    choices = tuple(Choice("layer", layers, WHOLE_LAYERS) for layers in left if layers)
    if not choices:
        raise ModelError(f"{option}.layers {options.layers!r} selects only layers that have been removed before")
    return choices


def sample_layers(choices: int, count: int, rng: np.random.Generator) -> Indices:
    """Random positions of choices of whole layers, shape (count, choices).

    Every second sample loses neighbouring choices, any number of them at any place. The others lose each choice with a
    probability that the sample draws.
    """
    lost = rng.random((count, choices)) < rng.random((count, 1))
    number = rng.integers(0, choices, size=(count, 1), endpoint=True)
    start = rng.integers(0, choices - number, endpoint=True)
    place = np.arange(choices)
    neighbours = (place >= start) & (place < start + number)
    lost[1::2] = neighbours[1::2]
    return np.asarray(~lost, dtype=np.int64)
