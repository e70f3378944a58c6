"""Projections whose kept part can change, and replacements for removed components.

Notation:
    B, T, D      rows of a batch, tokens of a row, hidden size
    D_in, D_out  inputs and outputs of a projection in the dense model
    blocks       equal parts that the outputs or inputs of a projection are divided into, and their number: the KV
                 groups of an attention, a single block for an MLP
    rows         outputs of one block
    columns      inputs of one block

A projection keeps the first rows or columns of its first blocks. Weights are stored block by block, so that the kept
part of a block, or of several whole blocks, is a contiguous view.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Compensated(NamedTuple):
    """Parameters that replace those of the kept part of a :class:`ShrinkingInput`, adjusted for its removed inputs.

    Both are converted to the dtype of the projection on use.

    Attributes:
        weight: shape (kept blocks x kept columns, D_out), block after block; None keeps the projection's own.
        bias: shape (D_out,); None keeps the projection's own.
    """

    weight: Tensor | None = None
    bias: Tensor | None = None


@dataclass(slots=True)
class _KeptPart:
    """Kept part of a projection: the first ``size`` rows or columns of the first ``blocks``.

    An object of its own, changed in place: assigning to an attribute of an ``nn.Module`` takes 30 times as long.
    """

    blocks: int
    size: int
    compensated: Compensated | None = None


class ShrinkingOutput(nn.Module):
    """A linear projection of which the first ``rows`` outputs of the first ``blocks`` blocks are kept.

    Args:
        weight: shape (blocks x rows, D_in).
        bias: shape (blocks x rows,) or None.
        blocks: number of blocks: KV groups for queries, keys and values, 1 for the MLP.
        transposed: True if the stock module stores its weight as (D_in, D_out).

    Attributes:
        weight: shape (blocks, rows, D_in), including outputs that are not kept; requires no gradient.
        bias: shape (blocks, rows) or None.
        transposed: as given.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, blocks: int, *, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        self.weight = _frozen(weight.view(blocks, -1, weight.shape[1]))
        self.bias = None if bias is None else _frozen(bias.view(blocks, -1))
        self._kept = _KeptPart(blocks, self.weight.shape[1])

    @property
    def blocks(self) -> int:
        """Number of blocks kept."""
        return self._kept.blocks

    @property
    def rows(self) -> int:
        """Number of outputs kept of each block."""
        return self._kept.size

    def keep(self, blocks: int, rows: int) -> None:
        """Keep the first ``rows`` outputs of each of the first ``blocks``."""
        kept = self._kept
        kept.blocks, kept.size = blocks, rows

    def views(self) -> list[tuple[Tensor, Tensor | None]]:
        """The kept part as contiguous views (weight, bias): one if the kept blocks are whole, else one per block."""
        blocks, rows = self._kept.blocks, self._kept.size
        if rows == self.weight.shape[1]:
            bias = None if self.bias is None else self.bias[:blocks].flatten()
            return [(self.weight[:blocks].flatten(0, 1), bias)]
        return [(self.weight[b, :rows], None if self.bias is None else self.bias[b, :rows]) for b in range(blocks)]

    def kept(self) -> tuple[Tensor, Tensor | None]:
        """Copies of the kept weight (kept blocks x kept rows, D_in) and bias (kept blocks x kept rows,)."""
        views = self.views()
        bias = None if self.bias is None else torch.cat([bias for _, bias in views if bias is not None])
        return torch.cat([weight for weight, _ in views]), bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D_in) to (..., kept blocks x kept rows)."""
        outputs = [functional.linear(x, weight, bias) for weight, bias in self.views()]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)


class FusedOutput(nn.Module):
    """A linear projection fused from several, with the kept outputs of each in order.

    Args:
        parts: the projections, in order.

    Attributes:
        parts: as given.
        transposed: True if the stock module stores its weight as (D_in, D_out).
    """

    def __init__(self, parts: Sequence[ShrinkingOutput]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.transposed = parts[0].transposed

    def kept(self) -> tuple[Tensor, Tensor | None]:
        """Copies of the kept weight (kept outputs, D_in) and bias (kept outputs,)."""
        weights, biases = zip(*(part.kept() for part in self.parts), strict=True)  # type: ignore[operator]
        return torch.cat(weights), None if biases[0] is None else torch.cat(biases)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D_in) to (..., kept outputs)."""
        return torch.cat([part(x) for part in self.parts], dim=-1)


class InterleavedOutput(nn.Module):
    """A linear projection fused from several block by block, with the kept outputs of each block of each in order.

    Args:
        parts: the projections, in order; all keep the same blocks.

    Attributes:
        parts: as given.
        transposed: True if the stock module stores its weight as (D_in, D_out).
    """

    def __init__(self, parts: Sequence[ShrinkingOutput]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.transposed = parts[0].transposed

    def kept(self) -> tuple[Tensor, Tensor | None]:
        """Copies of the kept weight (kept outputs, D_in) and bias (kept outputs,)."""
        weights, biases = zip(*(part.kept() for part in self.parts), strict=True)  # type: ignore[operator]
        weight = self._interleaved([each.t().contiguous() for each in weights]).t()
        return weight, None if biases[0] is None else self._interleaved(biases)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D_in) to (..., kept outputs)."""
        return self._interleaved([part(x) for part in self.parts])

    def _interleaved(self, outputs: Sequence[Tensor]) -> Tensor:
        blocks: int = self.parts[0].blocks  # type: ignore[assignment]  # nn.Module does not know its attributes
        by_block = [output.view(*output.shape[:-1], blocks, -1) for output in outputs]
        return torch.cat(by_block, dim=-1).flatten(-2)


class ShrinkingInput(nn.Module):
    """A linear projection of which the first ``columns`` inputs of the first ``blocks`` blocks are kept.

    Args:
        weight: shape (D_out, blocks x columns).
        bias: shape (D_out,) or None.
        blocks: number of blocks: KV groups for the attention output, 1 for the MLP.
        transposed: True if the stock module stores its weight as (D_in, D_out).

    Attributes:
        weight: shape (blocks, columns, D_out), transposed so that the kept part is contiguous; includes inputs that
            are not kept, is never compensated, requires no gradient.
        bias: shape (D_out,) or None, never compensated.
        transposed: as given.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, blocks: int, *, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        self.weight = _frozen(weight.t().contiguous().view(blocks, -1, weight.shape[0]))
        self.bias = None if bias is None else _frozen(bias)
        self._kept = _KeptPart(blocks, self.weight.shape[1])

    def keep(self, blocks: int, columns: int, compensated: Compensated | None = None) -> None:
        """Keep the first ``columns`` inputs of each of the first ``blocks``, with compensated parameters if given."""
        kept = self._kept
        kept.blocks, kept.size, kept.compensated = blocks, columns, compensated

    def views(self) -> list[Tensor]:
        """The kept weight as contiguous views, each of shape (inputs, D_out).

        A single one if the weight is compensated or the kept blocks are whole, else one per block.
        """
        kept = self._kept
        if kept.compensated is not None and kept.compensated.weight is not None:
            return [kept.compensated.weight.to(self.weight.dtype)]
        if kept.size == self.weight.shape[1]:
            return [self.weight[: kept.blocks].flatten(0, 1)]
        return [self.weight[block, : kept.size] for block in range(kept.blocks)]

    def kept(self) -> tuple[Tensor, Tensor | None]:
        """Copy of the kept weight (D_out, kept blocks x kept columns), and the bias (D_out,) or None."""
        return torch.cat(self.views()).t().contiguous(), self.kept_bias

    @property
    def kept_bias(self) -> Tensor | None:
        """The bias (D_out,): the compensated one if there is one, else the projection's own, which may be None."""
        compensated = self._kept.compensated
        if compensated is not None and compensated.bias is not None:
            return compensated.bias.to(self.weight.dtype)
        return self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., kept blocks x kept columns) to (..., D_out)."""
        views = self.views()
        parts = torch.split(x.flatten(0, -2), [view.shape[0] for view in views], dim=-1)
        total = torch.mm(parts[0], views[0])
        for part, view in zip(parts[1:], views[1:], strict=True):
            total.addmm_(part, view)
        if (bias := self.kept_bias) is not None:
            total = total + bias
        return total.view(*x.shape[:-1], -1)


class ShrinkingNorm:
    """Norm of queries or keys whose weights belong to single heads, of which those of the kept heads are kept.

    The norm is changed in place. Its parameters have a part for each head along their first dimension, or it has a
    list of norms, one a head.

    Args:
        norm: the norm.
        order: numbers of all heads, block by block, most important first; int64 of shape (blocks, heads).
    """

    def __init__(self, norm: nn.Module, order: Tensor) -> None:
        self._norm = norm
        self._list = next((child for child in norm.children() if isinstance(child, nn.ModuleList)), None)
        self._norms = np.array(self._list, dtype=object)[order.numpy()] if self._list is not None else None
        self._ordered = {
            name: parameter.data.view(order.numel(), -1, *parameter.shape[1:])[order.to(parameter.device)]
            for name, parameter in norm.named_parameters(recurse=False)
        }
        self.keep(*order.shape)

    def keep(self, blocks: int, heads: int) -> None:
        """Keep the first ``heads`` heads of each of the first ``blocks``."""
        if self._list is not None and self._norms is not None:
            self._list._modules = {str(n): norm for n, norm in enumerate(self._norms[:blocks, :heads].flat)}
        for name, ordered in self._ordered.items():
            setattr(self._norm, name, _frozen(ordered[:blocks, :heads].flatten(0, 2)))
        if isinstance(self._norm, nn.LayerNorm):
            self._norm.normalized_shape = tuple(self._norm.weight.shape)


class Nothing(nn.Module):
    """Replacement for a removed component, or for a part of it.

    Args:
        adds_residual: True if the component adds the residual stream, its second argument, to its output itself.
    """

    def __init__(self, *, adds_residual: bool = False) -> None:
        super().__init__()
        self.adds_residual = adds_residual

    def forward(self, hidden_states: Tensor, *others: Any, **_: object) -> Tensor:
        """Zeros of the shape of the input; the residual stream if the component adds it itself."""
        residual: Tensor = others[0] if self.adds_residual else torch.zeros_like(hidden_states)
        return residual


class NoAttention(Nothing):
    """Replacement for a removed attention, with the return values of a stock attention module."""

    def forward(self, hidden_states: Tensor, *others: Any, **_: object) -> tuple[Tensor, None]:  # type: ignore[override]
        """What :class:`Nothing` returns, and None for the attention weights."""
        return super().forward(hidden_states, *others), None


class OwnConfig:
    """Config of one attention module: attributes set on this object override those of the model's config.

    Args:
        config: config of the model, shared with all other modules.
    """

    def __init__(self, config: object) -> None:
        self.shared = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.shared, name)


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
