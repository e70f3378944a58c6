"""The uniform space: the same sizes in all layers, and which layers stay."""

from functools import cached_property
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prunecast.plugins import Choice, Indices, ModelError, PluginOptions, SearchSpace, Value
from prunecast_plugins.spaces.depth import DepthOptions, sample_layers, whole_layers
from prunecast_plugins.spaces.layers import LayerRange, layers_in
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions, Rate


class UniformOptions(PluginOptions):
    """Options of the uniform space."""

    layers: LayerRange = Field(
        default=":", description="layers of the same sizes, 'start:stop' as in Python; others stay dense"
    )
    attention: tuple[Rate, ...] = Field(
        default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        description="pruning rates of the query heads; each adds the nearest (KV groups, heads per group)",
    )
    mlp: tuple[Rate, ...] = Field(
        default=tuple(percent / 100 for percent in range(0, 75, 5)), description="pruning rates of the MLP width"
    )
    round_width: int = Field(
        default=1,
        ge=1,
        description="MLP widths are multiples of this, as suits the hardware, except for the dense width",
    )
    drop: DepthOptions | None = Field(
        default=None, description="whole layers that may go besides, as in space depth; none if not given"
    )

    @model_validator(mode="after")
    def _some_size(self) -> Self:
        if not (self.attention or self.mlp):
            raise ValueError("give rates for attention or mlp, or both; for whole layers alone, use space depth")
        return self


class Uniform(SearchSpace[UniformOptions]):
    """One choice for the attention and one for the MLP of all layers together and, with ``drop``, for whole layers.

    With ``layers`` at its default, what is left is a model of smaller sizes, which the class of the dense model builds,
    too, as far as it has options for them. Pruning rates mean what they mean in the space layerwise.
    """

    options_model = UniformOptions

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Choices of attention and MLP, then of whole layers. A component without two values has no choice.

        Raises:
            ModelError: the layers differ in size, the model does not have them, or the rates leave nothing to choose.
        """
        first, *others = layers_in(self.options.layers, self.shape)
        for layer in others:
            if self.shape.dense.layers[layer] != self.shape.dense.layers[first]:
                raise ModelError(
                    f"space uniform: layers {first} and {layer} differ in size, as the model has been pruned before: "
                    "use space layerwise or depth"
                )
        drop = self.options.drop
        return self._sizes.choices + (() if drop is None else whole_layers(drop, self.shape, "space.drop"))

    @cached_property
    def _sizes(self) -> Layerwise:
        """Choices of the sizes: those of the layerwise space with all layers tied."""
        options, depth = self.options, len(self.shape.dense.layers)
        tied = LayerwiseOptions(**options.model_dump(exclude={"drop"}), tie=depth)
        return Layerwise(tied, self.shape)

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Sizes of which all are equally likely, and whole layers of :func:`sample_layers`."""
        whole = sum(choice.component == "layer" for choice in self.choices)
        sizes = super().sample(count, rng)[:, : len(self.choices) - whole]
        return np.concatenate([sizes, sample_layers(whole, count, rng)], axis=1) if whole else sizes

    def values_at(self, choice: Choice, rate: float) -> tuple[Value, ...]:
        """Values that the pruning rate would allow in the options."""
        return () if choice.component == "layer" else self._sizes.values_at(choice, rate)
