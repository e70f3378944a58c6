"""Batches of token sequences of different lengths."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")


def padded(rows: Sequence[Sequence[int]], device: "torch.device") -> "torch.Tensor":
    """Token ids, int64 of shape (B, T), padded with 0 at the end, where causal attention ignores the padding."""
    import torch

    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)


def chunks(items: Iterable[Item], lengths: Sequence[int], size: int) -> Iterator[list[Item]]:
    """Batches of at most ``size`` items in ascending order of length, which keeps padding short."""
    ordered = [item for _, item in sorted(zip(lengths, items, strict=True), key=lambda pair: pair[0])]
    return (ordered[start : start + size] for start in range(0, len(ordered), size))
