"""The layerwise space: kept sizes of the attention and of the MLP of each layer."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from prunecast.plugins import Choice, Component, Indices, ModelError, PluginOptions, SearchSpace, Value, ascending
from prunecast_plugins.spaces.layers import LayerRange, layers_in

Rate = Annotated[float, Field(ge=0, le=1)]

Shares = tuple[Rate, Rate]
"""Smallest and largest share."""


class Sampling(PluginOptions):
    """Options of the distribution of sampled architectures."""

    draw: Literal["even", "varied", "near"] = Field(
        default="varied",
        description="distribution of the samples; even: all values equally likely, so that totals differ little; "
        "varied: each sample draws one share for attention and one for MLPs, around which its choices scatter; near: "
        "uniform MLP pruning except for up to `reach` positions, and whole attention in the drawn share of the layers",
    )
    reach: int = Field(default=2, ge=1, description="maximum number of positions by which near samples move each MLP")
    attention: Shares = Field(
        default=(0.0, 1.0),
        description="range from which samples draw their share of attention: 0 for the smallest values, 1 for the "
        "largest",
    )
    mlp: Shares = Field(
        default=(0.0, 1.0), description="range from which samples draw their share of the MLPs, in the same way"
    )
    tie: int = Field(default=1, ge=1, description="number of neighbouring layers with the same rate in a tied sample")
    tied_share: float = Field(default=0.0, ge=0, le=1, description="fraction of the samples that are tied")

    @field_validator("attention", "mlp")
    @classmethod
    def _ascends(cls, shares: Shares) -> Shares:
        if shares[0] > shares[1]:
            raise ValueError(f"give the smaller share first, [{shares[1]:g}, {shares[0]:g}]")
        return shares


class LayerwiseOptions(PluginOptions):
    """Options of the layerwise space."""

    layers: LayerRange = Field(
        default=":", description="layers that may be pruned, 'start:stop' as in Python, e.g. '3:28' or '3:-2'"
    )
    attention: tuple[Rate, ...] = Field(
        default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        description="pruning rates of the query heads of a layer; each adds the nearest (KV groups, heads per group)",
    )
    mlp: tuple[Rate, ...] = Field(
        default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5), description="pruning rates of the MLP width of a layer"
    )
    tie: int = Field(default=1, ge=1, description="number of neighbouring layers that share one choice")
    round_width: int = Field(
        default=1,
        ge=1,
        description="MLP widths are multiples of this, as suits the hardware, except for the dense width",
    )
    sampling: Sampling = Field(default=Sampling(), description="distribution of sampled architectures")

    @model_validator(mode="after")
    def _some_choice(self) -> Self:
        if not (self.attention or self.mlp):
            raise ValueError("give rates for attention or mlp, or both: there is nothing to choose")
        return self


class Layerwise(SearchSpace[LayerwiseOptions]):
    """One choice for the attention and one for the MLP of every layer, or of every ``tie`` neighbouring layers.

    A pruning rate r of attention corresponds to round((1 - r) KV x H) query heads. All pairs of KV groups and heads per
    group with that number of heads, or with the nearest possible number, become values of the choice. Rate 1 removes
    everything.
    """

    options_model = LayerwiseOptions

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Choices of attention, then of MLPs. A component without rates, or with a single value, has no choices."""
        tied = [
            self._layers[start : start + self.options.tie] for start in range(0, len(self._layers), self.options.tie)
        ]
        parts: tuple[tuple[Component, Sequence[Rate]], ...] = (
            ("attention", self.options.attention),
            ("mlp", self.options.mlp),
        )
        every = [
            Choice(part, layers, self._values(part, layers, rates)) for part, rates in parts if rates for layers in tied
        ]
        choices = tuple(choice for choice in every if len(choice.values) > 1)
        if not choices:
            raise ModelError("the space leaves nothing to choose: give attention or mlp at least two different rates")
        return choices

    def _values(self, component: Component, layers: tuple[int, ...], rates: Sequence[Rate]) -> tuple[Value, ...]:
        """Values of a choice. Raises ModelError if its layers differ in the size of the component."""
        dense = [self.shape.dense.layers[layer] for layer in layers]
        sizes = [tuple(layer[:2]) if component == "attention" else (layer.mlp_width,) for layer in dense]
        for layer, size in zip(layers, sizes, strict=True):
            if size != sizes[0]:
                raise ModelError(
                    f"space.tie {self.options.tie}: the {component} of layers {layers[0]} and {layer} differs in size, "
                    "as the model has been pruned before; set tie to 1"
                )
        return ascending(value for rate in rates for value in self._values_at(component, layers[0], rate))

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Samples from the distribution ``sampling``, of which the first fraction ``tied_share`` is tied."""
        options = self.options.sampling
        draw = {"even": super().sample, "varied": self._varied, "near": self._near}[options.draw]
        indices = draw(count, rng)
        tied_rows = round(options.tied_share * count)
        for component in ("attention", "mlp"):
            columns = [c for c, choice in enumerate(self.choices) if choice.component == component]
            for start in range(0, len(columns), options.tie):
                group = columns[start : start + options.tie]
                tops = np.array([len(self.choices[column].values) - 1 for column in group])
                relative = indices[:tied_rows, group[:1]] / tops[0]
                indices[:tied_rows, group] = np.rint(relative * tops).astype(np.int64)
        return indices

    def _varied(self, count: int, rng: np.random.Generator) -> Indices:
        """Binomial positions; each sample draws the mean for attention and the mean for MLPs."""
        columns = [rng.binomial(top, share) for top, share in self._shares(count, rng)]
        return np.stack(columns, axis=1).astype(np.int64)

    def _near(self, count: int, rng: np.random.Generator) -> Indices:
        """MLPs within ``reach`` positions of a common relative position, which each sample draws.

        The share of attention is the probability that a layer keeps its largest value; otherwise all other values are
        equally likely. Attention is not kept near a common position, because it has few values and its importance
        differs widely between layers.
        """
        reach, columns = self.options.sampling.reach, []
        for choice, (top, share) in zip(self.choices, self._shares(count, rng), strict=True):
            if choice.component == "attention":
                columns.append(np.where(rng.random(count) < share, top, rng.integers(top, size=count)))
            else:
                moved = np.rint(top * share) + rng.integers(-reach, reach + 1, size=count)
                columns.append(np.clip(moved, 0, top))
        return np.stack(columns, axis=1).astype(np.int64)

    def _shares(self, count: int, rng: np.random.Generator) -> list[tuple[int, NDArray[np.float64]]]:
        """Last position of each choice, and the share that each sample draws for it: (count,), in [0, 1]."""
        ranges = np.array([self.options.sampling.attention, self.options.sampling.mlp])
        attention, mlp = ranges[:, :1] + (ranges[:, 1:] - ranges[:, :1]) * rng.random((2, count))
        shares: dict[str, NDArray[np.float64]] = {"attention": attention, "mlp": mlp}
        return [(len(choice.values) - 1, shares[choice.component]) for choice in self.choices]

    @property
    def _layers(self) -> tuple[int, ...]:
        return layers_in(self.options.layers, self.shape)

    def values_at(self, choice: Choice, rate: float) -> tuple[Value, ...]:
        """Values that the pruning rate would allow in the options; whole layers have no others."""
        return () if choice.component == "layer" else self._values_at(choice.component, choice.layers[0], rate)

    def _values_at(self, component: Component, layer: int, rate: float) -> tuple[Value, ...]:
        """Values of a component of a layer that a pruning rate allows."""
        return self._heads_at(layer, rate) if component == "attention" else ((self._width_at(layer, rate),),)

    def _heads_at(self, layer: int, rate: float) -> tuple[Value, ...]:
        groups, per_group, _ = self.shape.dense.layers[layer]
        every = [(kv, heads) for kv in range(1, groups + 1) for heads in range(1, per_group + 1)] + [(0, 0)]
        wanted = round((1 - rate) * groups * per_group)
        nearest = min((abs(kv * heads - wanted), -kv * heads) for kv, heads in every if rate == 1 or kv or not groups)
        return tuple(pair for pair in every if pair[0] * pair[1] == -nearest[1])

    def _width_at(self, layer: int, rate: float) -> int:
        dense = self.shape.dense.layers[layer].mlp_width
        if rate in (0, 1):
            return 0 if rate else dense
        step = self.options.round_width
        return min(max(round((1 - rate) * dense / step), 1) * step, dense)
