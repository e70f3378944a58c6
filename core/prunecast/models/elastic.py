"""The elastic model: every architecture of a model as prefix views of one copy of its weights.

Heads and channels of each layer are reordered once, most important first. What an architecture keeps is then a
prefix, and switching to it replaces views, not numbers. The stock transformers modules do the forward pass; only
their linear projections are replaced by ones whose kept part can change.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from prunecast.architecture.architecture import Architecture, Layer, LayerImportance
from prunecast.architecture.choices import Component
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ModelError
from prunecast.models.families import Family, Kept, LayerParts, Projection, layers_of
from prunecast.models.projections import (
    Compensated,
    FusedOutput,
    NoAttention,
    Nothing,
    OwnConfig,
    ShrinkingInput,
    ShrinkingOutput,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Compensation(Protocol):
    """Makes up for removed units; asked whenever a layer's sizes change."""

    def of(self, layer: int, component: Component, kept: Layer) -> Compensated | None:
        """Numbers for the output projection of ``component`` of a layer, or None if nothing of it was removed."""


class ElasticLayer:
    """One decoder layer with changeable sizes.

    Attributes:
        kept: what it is switched to; dense at first.
        input_orders: for each of ``inputs`` the position in the stock model of every input, int64 of shape (K,).
    """

    def __init__(self, parts: LayerParts, family: Family, dense: Layer, importance: LayerImportance) -> None:
        _check(importance, dense)
        self.kept = dense
        self._layer, self._attention, self._follows = parts.layer, parts.attention, family.follows
        self._head_dim = parts.head_dim
        if any(attribute.startswith("config.") for attribute in family.follows):
            parts.attention.config = OwnConfig(parts.attention.config)  # type: ignore[assignment]
        order, group_order = (_expand(order, parts.head_dim) for order in _head_order(importance))
        channels, blocks = _descending(importance.mlp_channels), dense.kv_groups
        self._query = _shrink_output(parts.query, order, blocks)
        self._key, self._value = (_shrink_output(part, group_order, blocks) for part in (parts.key, parts.value))
        self._output = _shrink_input(parts.output, order, blocks)
        self._widening = [_shrink_output(part, channels, 1) for part in parts.widening]
        self._down = _shrink_input(parts.down, channels, 1)
        self.input_orders: dict[Component, Tensor] = {"attention": order, "mlp": channels}
        self._install(parts)
        self._attention_members = self._members({family.attention: NoAttention()}, family.attention_norms)
        self._mlp_members = self._members({name: Nothing() for name in family.mlp}, family.mlp_norms)

    @property
    def module(self) -> nn.Module:
        """The stock decoder layer."""
        return self._layer

    @property
    def attention(self) -> nn.Module:
        """Its stock attention; not called while the layer has none."""
        return self._attention

    @property
    def widening(self) -> Sequence[ShrinkingOutput]:
        """The projections from the residual stream into the MLP, whose outputs shrink."""
        return self._widening

    @property
    def inputs(self) -> dict[Component, ShrinkingInput]:
        """The projections back into the residual stream, whose inputs shrink."""
        return {"attention": self._output, "mlp": self._down}

    def apply(self, kept: Layer, compensated: Callable[[Component], Compensated | None]) -> None:
        """Switch to the given sizes, with compensated numbers where there are any; what keeps its size is left.

        Each component changes at once or, where its compensation raises, not at all.
        """
        if kept[:2] != self.kept[:2]:
            self._keep_heads(kept, compensated("attention") if kept.kv_groups else None)
            self.kept = Layer(*kept[:2], self.kept.mlp_width)
        if kept.mlp_width != self.kept.mlp_width:
            self._keep_channels(kept.mlp_width, compensated("mlp") if kept.mlp_width else None)
            self.kept = kept

    def _keep_heads(self, kept: Layer, compensated: Compensated | None) -> None:
        if bool(kept.kv_groups) != bool(self.kept.kv_groups):
            self._switch(self._attention_members, present=kept.kv_groups > 0)
        if kept.kv_groups:
            rows = kept.heads_per_group * self._head_dim
            self._query.keep(kept.kv_groups, rows)
            self._key.keep(kept.kv_groups, self._head_dim)
            self._value.keep(kept.kv_groups, self._head_dim)
            self._output.keep(kept.kv_groups, rows, compensated)
            self._follow(kept)

    def _keep_channels(self, width: int, compensated: Compensated | None) -> None:
        if bool(width) != bool(self.kept.mlp_width):
            self._switch(self._mlp_members, present=width > 0)
        if width:
            for projection in self._widening:
                projection.keep(1, width)
            self._down.keep(1, width, compensated)

    def _install(self, parts: LayerParts) -> None:
        """Put the shrinking projections where the stock ones were; those of one fused module together."""
        outputs: dict[str, list[ShrinkingOutput]] = defaultdict(list)
        located = zip(
            (parts.query, parts.key, parts.value, *parts.widening),
            (self._query, self._key, self._value, *self._widening),
            strict=True,
        )
        for projection, module in located:
            outputs[projection.name].append(module)
        for name, modules in outputs.items():
            self._layer.set_submodule(name, modules[0] if len(modules) == 1 else FusedOutput(modules))
        self._layer.set_submodule(parts.output.name, self._output)
        self._layer.set_submodule(parts.down.name, self._down)

    def _members(self, gone: dict[str, nn.Module], norms: tuple[str, ...]) -> list[tuple[str, nn.Module, nn.Module]]:
        """Modules that go when a component goes: name, the module itself, and what stands in for it."""
        stand_ins = gone | dict.fromkeys(norms, _IDENTITY)
        return [(name, self._layer.get_submodule(name), stand_in) for name, stand_in in stand_ins.items()]

    def _switch(self, members: list[tuple[str, nn.Module, nn.Module]], *, present: bool) -> None:
        for name, module, stand_in in members:
            self._layer.set_submodule(name, module if present else stand_in)

    def _follow(self, kept: Layer) -> None:
        """Tell the attention module what it keeps, where its forward pass has to know."""
        amounts: dict[Kept, int] = {
            "kv_groups": kept.kv_groups,
            "query_heads": kept.query_heads,
            "heads_per_group": kept.heads_per_group,
            "query_width": kept.query_heads * self._head_dim,
        }
        for attribute, amount in self._follows.items():
            owner = self._attention.config if attribute.startswith("config.") else self._attention
            setattr(owner, attribute.removeprefix("config."), amounts[amount])


class ElasticModel:
    """A model whose architecture can be switched at no cost.

    Takes the model over: its projections are reordered and replaced in place, one layer after the other, so at no time
    are there two copies of the weights. The embeddings, norms and everything else stay as they are.

    Args:
        model: the dense stock model, in evaluation mode.
        family: its description.
        shape: its sizes.
        importance: one entry a layer; only the order of the scores matters, ties keep the original order.

    Attributes:
        model: the stock model with shrinking projections, to be called as usual.
        architecture: what it is switched to; dense at first.
        layers: its elastic layers, first layer first.
        compensation: what makes up for removed units; set it while the model is dense. None at first.

    Raises:
        ModelError: ``importance`` is not of this model, or has scores that are not finite.
    """

    def __init__(
        self, model: "PreTrainedModel", family: Family, shape: ModelShape, importance: Sequence[LayerImportance]
    ) -> None:
        if len(importance) != len(shape.dense.layers):
            raise ModelError(f"{len(importance)} layers were ranked, the model has {len(shape.dense.layers)}")
        self.model, self.shape = model, shape
        model.requires_grad_(False)
        self.compensation: Compensation | None = None
        self.layers = [
            ElasticLayer(parts, family, dense, scores)
            for parts, dense, scores in zip(layers_of(model, family), shape.dense.layers, importance, strict=True)
        ]
        self.architecture = shape.dense

    def apply(self, architecture: Architecture) -> None:
        """Switch to an architecture; layers that keep their sizes are not touched.

        Raises:
            ModelError: the architecture is of another model: another number of layers, or more than is there.
        """
        check_fits(architecture, self.shape)
        for index, (layer, kept) in enumerate(zip(self.layers, architecture.layers, strict=True)):
            if kept != layer.kept:
                layer.apply(kept, partial(self._compensated, index, kept))
        self.architecture = architecture

    def _compensated(self, layer: int, kept: Layer, component: Component) -> Compensated | None:
        return None if self.compensation is None else self.compensation.of(layer, component, kept)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the current architecture under the stock parameter names, sliced and in the stock orientation.

        A layer without attention or MLP has no entries for it nor for its norms.
        """
        return dict(_stock_entries(self.model, ""))


def _stock_entries(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters of a module as the stock module in its place would have them."""
    if isinstance(module, ShrinkingOutput | FusedOutput | ShrinkingInput):
        weight, bias = module.kept()
        yield f"{prefix}weight", weight.t().contiguous() if module.transposed else weight
        if bias is not None:
            yield f"{prefix}bias", bias
        return
    for name, parameter in module.named_parameters(prefix.removesuffix("."), recurse=False):
        yield name, parameter.detach()
    for name, child in module.named_children():
        yield from _stock_entries(child, f"{prefix}{name}.")


def check_fits(architecture: Architecture, shape: ModelShape) -> None:
    """Raise ModelError if the architecture has another depth than the model, or keeps more than there is."""
    if len(architecture.layers) != len(shape.dense.layers):
        raise ModelError(
            f"the architecture has {len(architecture.layers)} layers, the model {len(shape.dense.layers)}: "
            "it was made for another model"
        )
    for index, (kept, dense) in enumerate(zip(architecture.layers, shape.dense.layers, strict=True)):
        if any(k > d for k, d in zip(kept, dense, strict=True)):
            raise ModelError(
                f"layer {index} of the architecture keeps {tuple(kept)} (KV groups, heads per group, MLP width), "
                f"the model has {tuple(dense)}: it was made for another model"
            )


def convert_parameters(model: "PreTrainedModel", dtype: torch.dtype) -> None:
    """Convert parameters in place, one at a time.

    Buffers stay as they are: rounding the rotary frequencies would move every position. Gemma's factor of the
    embeddings, which a model loaded in bfloat16 holds in bfloat16, becomes what it is in float32.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if (scale := getattr(module, "scalar_embed_scale", None)) is not None:
            module.embed_scale = torch.tensor(scale, dtype=torch.float32, device=model.device)


_IDENTITY = nn.Identity()


def _check(importance: LayerImportance, dense: Layer) -> None:
    wanted = ((dense.kv_groups,), (dense.kv_groups, dense.heads_per_group), (dense.mlp_width,))
    scores = (importance.kv_groups, importance.query_heads, importance.mlp_channels)
    if tuple(score.shape for score in scores) != wanted:
        raise ModelError(f"the pruner ranked units of shapes {[s.shape for s in scores]}, the layer has {list(wanted)}")
    if not all(np.isfinite(score).all() for score in scores):
        raise ModelError("the pruner gave scores that are not finite: try other calibration text or another pruner")


def _descending(scores: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Tensor:
    return torch.from_numpy(np.argsort(-scores, axis=-1, kind="stable"))


def _head_order(importance: LayerImportance) -> tuple[Tensor, Tensor]:
    """Order of all query heads, group by group, and of the KV groups."""
    groups = _descending(importance.kv_groups)
    inside = _descending(importance.query_heads)[groups]
    heads = groups[:, None] * importance.query_heads.shape[1] + inside
    return heads.flatten(), groups


def _expand(order: Tensor, width: int) -> Tensor:
    """Order of single rows from an order of blocks of ``width`` rows."""
    return (order[:, None] * width + torch.arange(width)).flatten()


def _shrink_output(projection: Projection, order: Tensor, blocks: int) -> ShrinkingOutput:
    weight, bias = projection.weight().data, projection.bias()
    rows = order.to(weight.device)
    return ShrinkingOutput(
        weight[rows], None if bias is None else bias.data[rows], blocks, transposed=projection.transposed
    )


def _shrink_input(projection: Projection, order: Tensor, blocks: int) -> ShrinkingInput:
    weight, bias = projection.weight().data, projection.bias()
    columns = weight[:, order.to(weight.device)]
    return ShrinkingInput(columns, None if bias is None else bias.data, blocks, transposed=projection.transposed)
