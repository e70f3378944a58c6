"""The elastic model: all architectures of a model as prefix views of one copy of its weights.

Notation:
    KV        KV groups of a layer in the dense model
    H         query heads per KV group in the dense model
    head_dim  width of a head
    W         MLP width of a layer in the dense model, its number of channels
    K         inputs of an output projection in the dense model: KV x H x head_dim for the attention, W for the MLP

The KV groups, the query heads of each group and the MLP channels of each layer are reordered once, most important
first. Every architecture then keeps prefixes of them, and switching to it changes views instead of copying weights. The
forward pass is that of the stock transformers modules; only their linear projections are replaced, by ones whose kept
part can change (:mod:`prunecast.models.projections`).
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
from prunecast.models.families import Family, LayerParts, Projection, SizeName, layers_of
from prunecast.models.projections import (
    Compensated,
    FusedOutput,
    NoAttention,
    Nothing,
    OwnConfig,
    ShrinkingInput,
    ShrinkingOutput,
)
from prunecast.text import counted

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Compensation(Protocol):
    """Adjusts output projections for their removed inputs; called whenever the sizes of a layer change."""

    def of(self, layer: int, component: Component, kept: Layer) -> Compensated | None:
        """Compensated parameters of the output projection of ``component``, None if all of its inputs are kept.

        Args:
            layer: index of the layer.
            component: the component whose output projection is compensated.
            kept: sizes that the layer keeps.
        """


class ElasticLayer:
    """One decoder layer with changeable sizes.

    Args:
        parts: the stock layer, changed in place.
        family: description of its family.
        dense: its sizes.
        importance: scores of its units.

    Attributes:
        kept: current sizes; dense at first.
        input_orders: for each of ``inputs`` the position in the stock model of every input, int64 of shape (K,).

    Raises:
        ModelError: ``importance`` has other shapes, or scores that are not finite.
    """

    def __init__(self, parts: LayerParts, family: Family, dense: Layer, importance: LayerImportance) -> None:
        _check(importance, dense)
        self.kept = dense
        self._layer, self._attention, self._followed_sizes = parts.layer, parts.attention, family.follows
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
        """The stock decoder layer, with shrinking projections."""
        return self._layer

    @property
    def attention(self) -> nn.Module:
        """The stock attention module, also while it is removed from the layer and not called."""
        return self._attention

    @property
    def widening(self) -> Sequence[ShrinkingOutput]:
        """Projections from the residual stream into the MLP (gate and up), whose outputs shrink."""
        return self._widening

    @property
    def inputs(self) -> dict[Component, ShrinkingInput]:
        """Output projections, back into the residual stream, whose inputs shrink."""
        return {"attention": self._output, "mlp": self._down}

    def apply(self, kept: Layer, compensated: Callable[[Component], Compensated | None]) -> None:
        """Switch to the sizes ``kept``; a component whose size stays the same is not changed.

        A component for which ``compensated`` raises is not changed either, not even in part.

        Args:
            kept: new sizes.
            compensated: returns the compensated parameters of a component's output projection, None for its own.
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
            self._set_attributes(kept)

    def _keep_channels(self, width: int, compensated: Compensated | None) -> None:
        if bool(width) != bool(self.kept.mlp_width):
            self._switch(self._mlp_members, present=width > 0)
        if width:
            for projection in self._widening:
                projection.keep(1, width)
            self._down.keep(1, width, compensated)

    def _install(self, parts: LayerParts) -> None:
        """Replace the stock projections by shrinking ones; those of one fused module by one :class:`FusedOutput`."""
        outputs: dict[str, list[ShrinkingOutput]] = defaultdict(list)
        replacements = zip(
            (parts.query, parts.key, parts.value, *parts.widening),
            (self._query, self._key, self._value, *self._widening),
            strict=True,
        )
        for projection, module in replacements:
            outputs[projection.name].append(module)
        for name, modules in outputs.items():
            self._layer.set_submodule(name, modules[0] if len(modules) == 1 else FusedOutput(modules))
        self._layer.set_submodule(parts.output.name, self._output)
        self._layer.set_submodule(parts.down.name, self._down)

    def _members(self, removed: dict[str, nn.Module], norms: tuple[str, ...]) -> list[tuple[str, nn.Module, nn.Module]]:
        """Modules that are removed with a component: the name, the module itself and its replacement."""
        replacements = removed | dict.fromkeys(norms, _IDENTITY)
        return [(name, self._layer.get_submodule(name), replacement) for name, replacement in replacements.items()]

    def _switch(self, members: list[tuple[str, nn.Module, nn.Module]], *, present: bool) -> None:
        for name, module, replacement in members:
            self._layer.set_submodule(name, module if present else replacement)

    def _set_attributes(self, kept: Layer) -> None:
        """Set the attributes of the attention module, and of its config, that its forward pass depends on."""
        sizes: dict[SizeName, int] = {
            "kv_groups": kept.kv_groups,
            "query_heads": kept.query_heads,
            "heads_per_group": kept.heads_per_group,
            "query_width": kept.query_heads * self._head_dim,
        }
        for attribute, name in self._followed_sizes.items():
            owner = self._attention.config if attribute.startswith("config.") else self._attention
            setattr(owner, attribute.removeprefix("config."), sizes[name])


class ElasticModel:
    """A model whose architecture can be switched without copying its weights.

    Changes the stock model: its projections are reordered and replaced in place, one layer after the other, so that
    there are never two copies of all weights. Embeddings, norms and all other modules stay as they are.

    Args:
        model: the dense stock model, in evaluation mode.
        family: description of its family.
        shape: its sizes.
        importance: scores of its units, one entry per layer; only their order matters, ties keep the original order.

    Attributes:
        model: the stock model with shrinking projections, to be called as usual.
        shape: sizes of the dense model.
        architecture: the current architecture; dense at first.
        layers: its elastic layers, first layer first.
        compensation: compensation of removed units, None at first; set it while the model is dense.

    Raises:
        ModelError: ``importance`` does not fit the model, or has scores that are not finite.
    """

    def __init__(
        self, model: "PreTrainedModel", family: Family, shape: ModelShape, importance: Sequence[LayerImportance]
    ) -> None:
        if len(importance) != len(shape.dense.layers):
            raise ModelError(
                f"the ranking has {counted(len(importance), 'layer')}, the model {len(shape.dense.layers)}"
            )
        self.model, self.shape = model, shape
        model.requires_grad_(False)
        self.compensation: Compensation | None = None
        self.layers = [
            ElasticLayer(parts, family, dense, scores)
            for parts, dense, scores in zip(layers_of(model, family), shape.dense.layers, importance, strict=True)
        ]
        self.architecture = shape.dense

    def apply(self, architecture: Architecture) -> None:
        """Switch to an architecture; layers whose sizes stay the same are not changed.

        Raises:
            ModelError: the architecture is of another model: it has another number of layers, or keeps more than there
                is.
        """
        check_fits(architecture, self.shape)
        for index, (layer, kept) in enumerate(zip(self.layers, architecture.layers, strict=True)):
            if kept != layer.kept:
                layer.apply(kept, partial(self._compensated, index, kept))
        self.architecture = architecture

    def _compensated(self, layer: int, kept: Layer, component: Component) -> Compensated | None:
        return None if self.compensation is None else self.compensation.of(layer, component, kept)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the current architecture under the stock parameter names, sliced, in the stock orientation.

        Removed components and their norms have no entries.
        """
        return dict(_stock_entries(self.model, ""))


def _stock_entries(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the parameters that stock modules of the current sizes would have in place of ``module``."""
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
            f"the architecture has {counted(len(architecture.layers), 'layer')}, the model {len(shape.dense.layers)}: "
            "it was made for another model"
        )
    for index, (kept, dense) in enumerate(zip(architecture.layers, shape.dense.layers, strict=True)):
        if any(k > d for k, d in zip(kept, dense, strict=True)):
            raise ModelError(
                f"layer {index} of the architecture keeps {tuple(kept)} (KV groups, heads per group, MLP width), "
                f"the model has {tuple(dense)}: it was made for another model"
            )


def convert_parameters(model: "PreTrainedModel", dtype: torch.dtype) -> None:
    """Convert parameters to ``dtype`` in place, one at a time.

    Buffers are not converted, because rounding the rotary frequencies would shift every position. An exception is the
    scale of Gemma's embeddings, which is rounded in a model loaded in bfloat16: it is set to its exact float32 value.
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
    """Positions of the scores along the last axis, highest score first; ties keep the original order."""
    return torch.from_numpy(np.argsort(-scores, axis=-1, kind="stable"))


def _head_order(importance: LayerImportance) -> tuple[Tensor, Tensor]:
    """Stock positions of all query heads, shape (KV x H,), and of the KV groups, shape (KV,), most important first.

    The query heads are ordered group by group.
    """
    groups = _descending(importance.kv_groups)
    within_group = _descending(importance.query_heads)[groups]
    heads = groups[:, None] * importance.query_heads.shape[1] + within_group
    return heads.flatten(), groups


def _expand(order: Tensor, width: int) -> Tensor:
    """Order of single rows, from an order of heads of ``width`` rows each."""
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
