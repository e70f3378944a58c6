"""A search space: the number of KV groups and the MLP width of every layer."""

from functools import cached_property

from pydantic import Field

from prunecast.plugins import Choice, ModelError, PluginOptions, SearchSpace


class StepsOptions(PluginOptions):
    """Options of the search space."""

    steps: int = Field(default=4, ge=2, description="number of MLP widths, evenly spaced up to the dense width")
    protect: int = Field(default=1, ge=0, description="number of layers at each end that stay dense")


class Steps(SearchSpace[StepsOptions]):
    """One choice for the attention and one for the MLP of every layer that is not protected.

    Attention keeps any number of KV groups, including none, with all their query heads.
    """

    options_model = StepsOptions

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Choices layer by layer. Raises ModelError if every layer is protected."""
        dense = self.shape.dense.layers
        layers = range(self.options.protect, len(dense) - self.options.protect)
        if not layers:
            raise ModelError(f"protect {self.options.protect} leaves none of the model's {len(dense)} layers to prune")
        found = []
        for layer in layers:
            groups, heads, width = dense[layer]
            attention = ((0, 0), *((kept, heads) for kept in range(1, groups + 1)))
            widths = sorted({max(1, width * step // self.options.steps) for step in range(1, self.options.steps + 1)})
            found += [Choice("attention", (layer,), attention), Choice("mlp", (layer,), tuple((w,) for w in widths))]
        return tuple(found)
