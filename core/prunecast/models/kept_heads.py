"""Arguments of an attention that hold something for each query head, cut to the heads that it keeps."""

from functools import partial
from typing import Any, Self

from torch import Tensor, nn

from prunecast.models.families.layer_parts import KEPT_HEADS, of_heads


class KeptHeads:
    """The query heads of an attention: its arguments that hold something for each head get those of the kept ones.

    The heads are a buffer of the attention module, int64 of shape (kept heads,): their numbers among the heads that the
    arguments are made for. A model that has been pruned before has the buffer, and a hook that reads it.

    Args:
        attention: the attention module; a buffer, and a hook if it has none, are added to it.
        order: numbers of all its heads, group by group, most important first; int64 of shape (KV, H).
    """

    def __init__(self, attention: nn.Module, order: Tensor) -> None:
        self._attention, self._order = attention, order
        self.keep(*order.shape)

    @classmethod
    def of(cls, attention: nn.Module, arguments: tuple[str, ...], order: Tensor) -> Self:
        """The heads of an attention with such ``arguments``, its own heads in ``order``, shape (KV, H)."""
        before = getattr(attention, KEPT_HEADS, None)
        if before is None:
            hook = partial(_cut, arguments, order.numel())
            attention.register_forward_pre_hook(hook, with_kwargs=True)
        return cls(attention, order if before is None else before.cpu()[order])

    def keep(self, groups: int, heads: int) -> None:
        """Keep the first ``heads`` heads of each of the first ``groups`` groups."""
        kept = self._order[:groups, :heads].flatten()
        device = next(self._attention.parameters()).device
        self._attention.register_buffer(KEPT_HEADS, kept.to(device))


def _cut(
    arguments: tuple[str, ...], heads: int, attention: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of an attention in a model of so many ``heads``."""
    kept: Tensor = getattr(attention, KEPT_HEADS)
    return positional, named | {
        name: of_heads(named[name], kept, heads) for name in arguments if isinstance(named.get(name), Tensor)
    }
