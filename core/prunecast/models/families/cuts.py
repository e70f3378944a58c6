"""A trial of what an attention module depends on: the module with fewer heads, in a small model.

The heads of an attention do not depend on one another, so those that remain return what they returned before, once all
that the module depends on has followed.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunecast.models.families.dataflow import Flow, LayerFlow
from prunecast.models.families.family import Family, SizeName
from prunecast.models.families.layer_parts import of_heads
from prunecast.models.families.rows import AttentionRows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOLERANCE = 1e-4
"""Largest difference, relative to the largest number, that rounding explains where a model computes in float32."""


@dataclass(frozen=True)
class CutTrial:
    """The attention of one layer of a small model, and what it returned with all heads.

    Attributes:
        model, layers, ids, bypassed: as for :class:`prunecast.models.families.dataflow.Flow`.
        index: number of the layer.
        family: description of its family, but for what follows.
        rows: rows of the projections of its attention that read the residual stream.
    """

    model: "PreTrainedModel"
    layers: str
    ids: Tensor
    bypassed: Sequence[str]
    index: int
    family: Family
    rows: AttentionRows

    @property
    def sizes(self) -> dict[SizeName, int]:
        """Sizes of the whole attention."""
        return sizes_of(self.rows.groups, self.rows.heads // self.rows.groups, self.rows.head_dim)

    def succeeds(self, follows: Mapping[str, SizeName]) -> bool:
        """True if the remaining heads return the same for every smaller number of groups and of heads in each."""
        per_group = self.rows.heads // self.rows.groups
        cuts = [(g, h) for g in range(1, self.rows.groups + 1) for h in range(1, per_group + 1)]
        return all(self._same(groups, heads, follows) for groups, heads in cuts[:-1])

    def _same(self, groups: int, per_group: int, follows: Mapping[str, SizeName]) -> bool:
        heads = self._kept_heads(groups, per_group)
        columns = (heads[:, None] * self.rows.head_dim + torch.arange(self.rows.head_dim)).flatten()
        wanted = self._whole[..., columns]
        try:
            with self._smaller(groups, heads, columns, follows):
                found = self._heads_returned()
        # Whatever a forward pass with wrong sizes raises.
        except Exception:  # noqa: BLE001
            return False
        return found.shape == wanted.shape and bool((found - wanted).abs().max() <= _TOLERANCE * wanted.abs().max())

    @cached_property
    def _whole(self) -> Tensor:
        return self._heads_returned()

    def _heads_returned(self) -> Tensor:
        """Input of the output projection, shape (B, T, heads x head_dim)."""
        flow = Flow(self.model, self.layers, self.ids, self.bypassed)
        return flow.layers[self.index].input(self.family.output).detach()

    def _kept_heads(self, groups: int, per_group: int) -> Tensor:
        all_per_group = self.rows.heads // self.rows.groups
        return (torch.arange(groups)[:, None] * all_per_group + torch.arange(per_group)).flatten()

    @contextmanager
    def _smaller(self, groups: int, heads: Tensor, columns: Tensor, follows: Mapping[str, SizeName]) -> Iterator[None]:
        """The model with the layer cut, inside of the context."""
        stack: Any = self.model.get_submodule(self.layers)
        whole = stack[self.index]
        stack[self.index] = layer = copy.deepcopy(whole)
        try:
            self._cut_projections(layer, groups, heads, columns)
            attention = layer.get_submodule(self.family.attention)
            if any(name.startswith("config.") for name in follows):
                attention.config = _OwnConfig(attention.config)
            sizes = sizes_of(groups, len(heads) // groups, self.rows.head_dim)
            for name, size in follows.items():
                owner = attention.config if name.startswith("config.") else attention
                setattr(owner, name.removeprefix("config."), sizes[size])
            hook = partial(_cut_arguments, self.family.per_head, self.rows.heads, heads)
            attention.register_forward_pre_hook(hook, with_kwargs=True)
            yield
        finally:
            stack[self.index] = whole

    def _cut_projections(self, layer: nn.Module, groups: int, heads: Tensor, columns: Tensor) -> None:
        kept = set(heads.tolist())
        for name, rows in self.rows.rows.items():
            stays = [row.block in kept if row.role == "query" else row.block < groups for row in rows]
            _select(layer.get_submodule(name), torch.tensor(stays).nonzero().flatten(), outputs=True)
        _select(layer.get_submodule(self.family.output), columns, outputs=False)


class _OwnConfig:
    """Config of one module: attributes set on this object override those of the model's config."""

    def __init__(self, config: object) -> None:
        self.shared = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.shared, name)


def sizes_of(groups: int, per_group: int, head_dim: int) -> dict[SizeName, int]:
    """Sizes that an attribute of an attention module can depend on, by name."""
    heads = groups * per_group
    return {
        "query_heads": heads,
        "kv_groups": groups,
        "heads_per_group": per_group,
        "query_width": heads * head_dim,
    }


def arguments_of_heads(flow: LayerFlow, attention: str, heads: int) -> tuple[str, ...]:
    """Named arguments of an attention that hold something for each of its query heads."""
    first = torch.zeros(1, dtype=torch.int64)
    named = flow.calls[attention][0].named
    return tuple(
        name
        for name, value in named.items()
        if heads > 1 and isinstance(value, Tensor) and value.ndim and of_heads(value, first, heads).shape != value.shape
    )


def _select(module: nn.Module, kept: Tensor, *, outputs: bool) -> None:
    """Keep some rows or columns of a projection."""
    from transformers.pytorch_utils import Conv1D

    projection: Any = module
    dimension = 0 if outputs != isinstance(module, Conv1D) else 1
    projection.weight = nn.Parameter(projection.weight.detach().index_select(dimension, kept))
    if outputs:
        if projection.bias is not None:
            projection.bias = nn.Parameter(projection.bias.detach()[kept])
        projection.nf = projection.out_features = len(kept)


def _cut_arguments(
    names: tuple[str, ...], heads: int, kept: Tensor, _: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of an attention that keeps some of its heads."""
    return positional, named | {
        name: of_heads(named[name], kept, heads) for name in names if isinstance(named.get(name), Tensor)
    }
