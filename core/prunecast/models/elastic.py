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
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from prunecast.architecture.architecture import Architecture, Layer, LayerImportance
from prunecast.architecture.choices import Component
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ModelError
from prunecast.models.families.family import Family, SizeName
from prunecast.models.families.layer_parts import LayerParts, Projection, layers_of
from prunecast.models.kept_heads import KeptHeads
from prunecast.models.projections import (
    Compensated,
    FusedOutput,
    InterleavedOutput,
    NoAttention,
    Nothing,
    OwnConfig,
    ShrinkingInput,
    ShrinkingNorm,
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


class _ElasticAttention:
    """The attention of a layer, of which the first KV groups and the first query heads of each are kept.

    Args:
        parts: the stock layer, changed in place.
        family: description of its family.
        importance: scores of its units.
    """

    def __init__(self, parts: LayerParts, family: Family, importance: LayerImportance) -> None:
        self._module, self._head_dim, self._follows = parts.attention, parts.head_dim, family.follows
        if any(attribute.startswith("config.") for attribute in family.follows):
            parts.attention.config = OwnConfig(parts.attention.config)  # type: ignore[assignment]
        heads, groups = _head_order(importance)
        blocks = parts.sizes.kv_groups
        self.order, group_order = _expand(heads, parts.head_dim), _expand(groups, parts.head_dim)
        self._query = _shrink_output(parts.query, self.order, blocks)
        self._key, self._value = (_shrink_output(part, group_order, blocks) for part in (parts.key, parts.value))
        self.output = _shrink_input(parts.output, self.order, blocks)
        by_group = heads.view(blocks, -1)
        self._query_norm = ShrinkingNorm(parts.query_norm, by_group) if parts.query_norm else None
        self._key_norm = ShrinkingNorm(parts.key_norm, groups[:, None]) if parts.key_norm else None
        self._heads = KeptHeads.of(parts.attention, family.per_head, by_group) if family.per_head else None
        fuse = InterleavedOutput if family.fused == "groups" else FusedOutput
        _install(parts, (parts.query, parts.key, parts.value), (self._query, self._key, self._value), fuse)
        parts.layer.set_submodule(parts.output.name, self.output)

    def keep(self, kept: Layer, compensated: Compensated | None) -> None:
        """Keep the first KV groups and query heads of a layer that keeps ``kept``, at least one of each."""
        rows = kept.heads_per_group * self._head_dim
        self._query.keep(kept.kv_groups, rows)
        self._key.keep(kept.kv_groups, self._head_dim)
        self._value.keep(kept.kv_groups, self._head_dim)
        self.output.keep(kept.kv_groups, rows, compensated)
        if self._query_norm is not None:
            self._query_norm.keep(kept.kv_groups, kept.heads_per_group)
        if self._key_norm is not None:
            self._key_norm.keep(kept.kv_groups, 1)
        if self._heads is not None:
            self._heads.keep(kept.kv_groups, kept.heads_per_group)
        self._set_attributes(kept)

    def _set_attributes(self, kept: Layer) -> None:
        """Set the attributes of the attention module, and of its config, that its forward pass depends on."""
        sizes: dict[SizeName, int] = {
            "kv_groups": kept.kv_groups,
            "query_heads": kept.query_heads,
            "heads_per_group": kept.heads_per_group,
            "query_width": kept.query_heads * self._head_dim,
        }
        for attribute, name in self._follows.items():
            owner = self._module.config if attribute.startswith("config.") else self._module
            setattr(owner, attribute.removeprefix("config."), sizes[name])


class _ElasticMLP:
    """The MLP of a layer, of which the first channels are kept; arguments as for the attention."""

    def __init__(self, parts: LayerParts, importance: LayerImportance) -> None:
        self.order = _descending(importance.mlp_channels)
        self.widening = [_shrink_output(part, self.order, 1) for part in parts.widening]
        self.output = _shrink_input(parts.down, self.order, 1)
        _install(parts, parts.widening, self.widening, FusedOutput)
        parts.layer.set_submodule(parts.down.name, self.output)

    def keep(self, width: int, compensated: Compensated | None) -> None:
        """Keep the first ``width`` channels, at least one."""
        for projection in self.widening:
            projection.keep(1, width)
        self.output.keep(1, width, compensated)


class ElasticLayer:
    """One decoder layer with changeable sizes. A component that the model does not have stays away.

    Args:
        parts: the stock layer, changed in place.
        family: description of its family.
        importance: scores of its units.

    Attributes:
        kept: current sizes; dense at first.
        input_orders: for each of ``inputs`` the position in the stock model of every input, int64 of shape (K,).

    Raises:
        ModelError: ``importance`` has other shapes, or scores that are not finite.
    """

    def __init__(self, parts: LayerParts, family: Family, importance: LayerImportance) -> None:
        _check(importance, parts.sizes)
        self.kept = parts.sizes
        self._layer, self._attention_module = parts.layer, parts.attention
        self._attention = _ElasticAttention(parts, family, importance) if parts.sizes.kv_groups else None
        self._mlp = _ElasticMLP(parts, importance) if parts.sizes.mlp_width else None
        present: dict[Component, _ElasticAttention | _ElasticMLP | None] = {
            "attention": self._attention,
            "mlp": self._mlp,
        }
        self.inputs: dict[Component, ShrinkingInput] = {name: each.output for name, each in present.items() if each}
        """Output projections, back into the residual stream, whose inputs shrink."""
        self.input_orders: dict[Component, Tensor] = {name: each.order for name, each in present.items() if each}
        nothing: dict[str, nn.Module] = {
            name: Nothing(adds_residual="mlp" in family.adds_residual) for name in family.mlp
        }
        no_attention = NoAttention(adds_residual="attention" in family.adds_residual)
        self._members: dict[Component | Literal["shared"], list[tuple[str, nn.Module, nn.Module]]] = {
            "attention": self._replaceable({family.attention: no_attention}, family.attention_norms),
            "mlp": self._replaceable(nothing, family.mlp_norms),
            "shared": self._replaceable({}, family.shared_norms),
        }

    @property
    def module(self) -> nn.Module:
        """The stock decoder layer, with shrinking projections."""
        return self._layer

    @property
    def attention(self) -> nn.Module:
        """The stock attention module, also while it is removed from the layer and not called."""
        return self._attention_module

    @property
    def widening(self) -> Sequence[ShrinkingOutput]:
        """Projections from the residual stream into the MLP (gate and up), whose outputs shrink."""
        return self._mlp.widening if self._mlp else ()

    def apply(self, kept: Layer, compensated: Callable[[Component], Compensated | None]) -> None:
        """Switch to the sizes ``kept``; a component whose size stays the same is not changed.

        A component for which ``compensated`` raises is not changed either, not even in part.

        Args:
            kept: new sizes.
            compensated: returns the compensated parameters of a component's output projection, None for its own.
        """
        if kept[:2] != self.kept[:2] and self._attention is not None:
            parameters = compensated("attention") if kept.kv_groups else None
            self._switch("attention", self.kept.kv_groups, kept.kv_groups)
            if kept.kv_groups:
                self._attention.keep(kept, parameters)
            self._become(Layer(*kept[:2], self.kept.mlp_width))
        if kept.mlp_width != self.kept.mlp_width and self._mlp is not None:
            parameters = compensated("mlp") if kept.mlp_width else None
            self._switch("mlp", self.kept.mlp_width, kept.mlp_width)
            if kept.mlp_width:
                self._mlp.keep(kept.mlp_width, parameters)
            self._become(kept)

    def _become(self, kept: Layer) -> None:
        """Note the new sizes, and remove or restore what both components need."""
        self._switch("shared", *(layer.kv_groups + layer.mlp_width for layer in (self.kept, kept)))
        self.kept = kept

    def _replaceable(
        self, removed: dict[str, nn.Module], norms: tuple[str, ...]
    ) -> list[tuple[str, nn.Module, nn.Module]]:
        """Modules that are removed with a component: the name, the module itself and its replacement."""
        replacements = removed | dict.fromkeys(norms, _IDENTITY)
        return [(name, self._layer.get_submodule(name), replacement) for name, replacement in replacements.items()]

    def _switch(self, part: Component | Literal["shared"], before: int, after: int) -> None:
        """Remove or restore the modules of a part whose size goes from ``before`` to ``after``, if one of them is 0."""
        if bool(before) != bool(after):
            for name, module, replacement in self._members[part]:
                self._layer.set_submodule(name, module if after else replacement)


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
            ElasticLayer(parts, family, scores)
            for parts, scores in zip(layers_of(model, family), importance, strict=True)
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

    def layer(self, index: int) -> ElasticLayer:
        """One of its layers."""
        return self.layers[index]

    def _compensated(self, layer: int, kept: Layer, component: Component) -> Compensated | None:
        return None if self.compensation is None else self.compensation.of(layer, component, kept)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the current architecture under the stock parameter names, sliced, in the stock orientation.

        Removed components and their norms have no entries.
        """
        return dict(stock_entries(self.model, ""))


def stock_entries(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Names and values of what stock modules of the current sizes would store in place of ``module``.

    A module that has such a method of its own (a layer that is not in memory) says itself what it is.
    """
    if (own := getattr(module, "stock_entries", None)) is not None:
        yield from own(prefix)
        return
    if isinstance(module, ShrinkingOutput | FusedOutput | InterleavedOutput | ShrinkingInput):
        weight, bias = module.kept()
        yield f"{prefix}weight", weight.t().contiguous() if module.transposed else weight
        if bias is not None:
            yield f"{prefix}bias", bias
        return
    for name, parameter in module.named_parameters(prefix.removesuffix("."), recurse=False):
        yield name, parameter.detach()
    for name, buffer in module.named_buffers(prefix.removesuffix("."), recurse=False):
        if name.rpartition(".")[2] not in module._non_persistent_buffers_set:
            yield name, buffer.detach()
    for name, child in module.named_children():
        yield from stock_entries(child, f"{prefix}{name}.")


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


def _install(
    parts: LayerParts,
    stock: Sequence[Projection],
    shrinking: Sequence[ShrinkingOutput],
    fuse: type[FusedOutput | InterleavedOutput],
) -> None:
    """Replace stock projections by shrinking ones; those of one fused module by a single module."""
    outputs: dict[str, list[ShrinkingOutput]] = defaultdict(list)
    for projection, module in zip(stock, shrinking, strict=True):
        outputs[projection.name].append(module)
    for name, modules in outputs.items():
        parts.layer.set_submodule(name, modules[0] if len(modules) == 1 else fuse(modules))


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
