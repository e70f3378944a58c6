"""Projections whose kept part can change, and modules that stand in for components that are gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Compensated(NamedTuple):
    """Numbers for the kept part of a :class:`ShrinkingInput` that make up for what is gone.

    ``weight`` has shape (kept columns, D_out), block after block, in the model's dtype; ``bias`` (D_out,) replaces the
    projection's own. None leaves what is there.
    """

    weight: Tensor | None = None
    bias: Tensor | None = None


@dataclass(slots=True)
class _Kept:
    """What a projection keeps: the first ``size`` rows or columns of the first ``blocks``.

    Changed in place, because assigning to an attribute of an ``nn.Module`` takes as long as thirty of these do.
    """

    blocks: int
    size: int
    compensated: Compensated | None = None


class ShrinkingOutput(nn.Module):
    """A linear projection of which the first ``rows`` outputs of the first ``blocks`` blocks are kept.

    Args:
        weight: shape (blocks x rows, D_in).
        bias: shape (blocks x rows,) or None.
        blocks: number of blocks the outputs fall into: KV groups for queries, keys and values, 1 for the MLP.
        transposed: whether the stock module stores its weight as (D_in, D_out).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, blocks: int, *, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        self.weight = _frozen(weight.view(blocks, -1, weight.shape[1]))
        self.bias = None if bias is None else _frozen(bias.view(blocks, -1))
        self._kept = _Kept(blocks, self.weight.shape[1])

    @property
    def rows(self) -> int:
        """How many outputs of each block are kept."""
        return self._kept.size

    def keep(self, blocks: int, rows: int) -> None:
        """Keep the first ``rows`` of the first ``blocks``."""
        kept = self._kept
        kept.blocks, kept.size = blocks, rows

    def views(self) -> list[tuple[Tensor, Tensor | None]]:
        """What is kept as contiguous views: one (weight, bias) if the kept blocks are whole, else one a block."""
        blocks, rows = self._kept.blocks, self._kept.size
        if rows == self.weight.shape[1]:
            bias = None if self.bias is None else self.bias[:blocks].flatten()
            return [(self.weight[:blocks].flatten(0, 1), bias)]
        return [(self.weight[b, :rows], None if self.bias is None else self.bias[b, :rows]) for b in range(blocks)]

    def kept(self) -> tuple[Tensor, Tensor | None]:
        """Copies of the kept weight (rows, D_in) and bias (rows,)."""
        views = self.views()
        bias = None if self.bias is None else torch.cat([bias for _, bias in views if bias is not None])
        return torch.cat([weight for weight, _ in views]), bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D_in) to (..., blocks x rows)."""
        outputs = [functional.linear(x, weight, bias) for weight, bias in self.views()]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)


class FusedOutput(nn.Module):
    """A linear projection that does the work of several: the kept outputs of each, one after the other.

    Args:
        parts: the projections, in order.
    """

    def __init__(self, parts: Sequence[ShrinkingOutput]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.transposed = parts[0].transposed

    def kept(self) -> tuple[Tensor, Tensor | None]:
        """Copies of the kept weight (rows, D_in) and bias (rows,)."""
        weights, biases = zip(*(part.kept() for part in self.parts), strict=True)  # type: ignore[operator]
        return torch.cat(weights), None if biases[0] is None else torch.cat(biases)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D_in) to (..., rows)."""
        return torch.cat([part(x) for part in self.parts], dim=-1)


class ShrinkingInput(nn.Module):
    """A linear projection of which the first ``columns`` inputs of the first ``blocks`` blocks are kept.

    The weight is stored transposed, (blocks, columns, D_out), so that what is kept is contiguous.

    Args:
        weight: shape (D_out, blocks x columns).
        bias: shape (D_out,) or None.
        blocks: number of blocks the inputs fall into.
        transposed: whether the stock module stores its weight as (D_in, D_out).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, blocks: int, *, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        self.weight = _frozen(weight.t().contiguous().view(blocks, -1, weight.shape[0]))
        self.bias = None if bias is None else _frozen(bias)
        self._kept = _Kept(blocks, self.weight.shape[1])

    def keep(self, blocks: int, columns: int, compensated: "Compensated | None" = None) -> None:
        """Keep the first ``columns`` of the first ``blocks``, with other numbers in their place if compensated."""
        kept = self._kept
        kept.blocks, kept.size, kept.compensated = blocks, columns, compensated

    def views(self) -> list[Tensor]:
        """What is kept as contiguous views (columns, D_out): all kept blocks at once if they are whole, else each."""
        kept = self._kept
        if kept.compensated is not None and kept.compensated.weight is not None:
            return [kept.compensated.weight.to(self.weight.dtype)]
        if kept.size == self.weight.shape[1]:
            return [self.weight[: kept.blocks].flatten(0, 1)]
        return [self.weight[block, : kept.size] for block in range(kept.blocks)]

    def kept(self) -> tuple[Tensor, Tensor | None]:
        """Copies of the kept weight (D_out, columns) and the bias (D_out,)."""
        return torch.cat(self.views()).t().contiguous(), self.kept_bias

    @property
    def kept_bias(self) -> Tensor | None:
        """The bias (D_out,), compensated or not, or None."""
        compensated = self._kept.compensated
        if compensated is not None and compensated.bias is not None:
            return compensated.bias.to(self.weight.dtype)
        return self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., blocks x columns) to (..., D_out)."""
        views = self.views()
        parts = torch.split(x.flatten(0, -2), [view.shape[0] for view in views], dim=-1)
        total = torch.mm(parts[0], views[0])
        for part, view in zip(parts[1:], views[1:], strict=True):
            total.addmm_(part, view)
        if (bias := self.kept_bias) is not None:
            total = total + bias
        return total.view(*x.shape[:-1], -1)


class Nothing(nn.Module):
    """A component that is gone, or a part of it: adds zero to the residual stream."""

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """A single zero that broadcasts over (B, T, D)."""
        return hidden_states.new_zeros(())


class NoAttention(Nothing):
    """An attention that is gone, with the return value of a stock attention module."""

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:  # type: ignore[override]
        """The zero, and no attention weights."""
        return hidden_states.new_zeros(()), None


class OwnConfig:
    """The model's config as one attention module reads it: attributes set on this object come first."""

    def __init__(self, config: object) -> None:
        self.shared = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.shared, name)


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
