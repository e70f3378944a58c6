"""Sizes of a dense model, and the cost of its architectures.

Notation:
    N  number of architectures
    L  number of decoder layers
    D  width of the residual stream
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Sizes, sizes_of
from prunecast.architecture.speed import SPEEDS, Speed, SpeedTable
from prunecast.errors import BudgetError

Counted = Literal["parameters", "parameters_without_embeddings", "macs", "kv_cache_bytes"]
"""Quantities that follow from the sizes alone. MACs and KV-cache bytes count one token at full context: its
multiply-accumulates, where the attention of a layer sees the context or, if that is shorter, its sliding window; and
the bytes of its keys and values in the cache. A layer with a sliding window keeps those of as many tokens, so its bytes
are the mean over the tokens of a full cache; but see :data:`WHOLE_CACHES`."""

Quantity = Literal[Counted, Speed]
"""Quantities that a budget can limit. Speeds are counted in nanoseconds, from a table of measured components."""

QUANTITIES: tuple[Counted, ...] = get_args(Counted)

CONTEXTUAL: tuple[Counted, ...] = ("macs", "kv_cache_bytes")
"""Quantities of sizes that can depend on the context."""

_PARAMETERS: tuple[Quantity, ...] = ("parameters", "parameters_without_embeddings")

KV_CACHE_ITEM_BYTES = 2
"""Bytes of one number in the KV cache: 16 bits, the precision models are usually served in."""


WHOLE_CACHES = ("gpt_neo",)
"""Families in whose cache transformers keeps all tokens, also those that the window of a layer has passed."""


@dataclass(frozen=True)
class ComponentCost:
    """Parameters of one component of one layer.

    Attributes:
        base: parameters of fixed size (norms, the bias of the output projection), counted unless the component is
            removed.
        unit: parameters of one KV group (its rows of the key and value projections), or of one MLP channel.
        head: parameters of one query head (its rows of the query projection, its columns of the output projection);
            0 for the MLP.
        unit_vectors, head_vectors: biases among the parameters of a unit or head, which take no multiplication.
    """

    base: int
    unit: int
    head: int = 0
    unit_vectors: int = 0
    head_vectors: int = 0


@dataclass(frozen=True)
class LayerCost:
    """Parameters of one decoder layer, and what its attention sees.

    Attributes:
        attention, mlp: parameters of its components.
        shared: parameters that both components need, counted until the last of them is removed.
        window: number of tokens that its attention sees at most; None for the whole context.
    """

    attention: ComponentCost
    mlp: ComponentCost
    shared: int = 0
    window: int | None = None


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a dense model, sufficient to count the cost of any of its architectures without loading it.

    Attributes:
        family: name of the model family, e.g. ``llama``.
        dense: the architecture of the unpruned model, L layers; they may differ.
        hidden_size: D, the width of the residual stream.
        head_dim: head dimension, the width of one head.
        vocabulary: number of rows of the output projection.
        context: maximum input length in tokens, at which costs are counted.
        embeddings: parameters of the input and output embeddings (tied ones count once).
        fixed: all parameters outside the layers' attention and MLP, embeddings included.
        layers: costs of each layer, L of them.
        bos: True if the family's models need a beginning-of-sequence token in front of every text.
        speeds: measured times of its components, at this context; None if none have been measured.

    Raises:
        ValueError: there are costs of more or of fewer layers than the dense model has.
    """

    family: str
    dense: Architecture
    hidden_size: int
    head_dim: int
    vocabulary: int
    context: int
    embeddings: int
    fixed: int
    layers: tuple[LayerCost, ...]
    bos: bool = False
    speeds: SpeedTable | None = None

    def __post_init__(self) -> None:
        if len(self.layers) != len(self.dense.layers):
            raise ValueError(f"costs of {len(self.layers)} layers for a model of {len(self.dense.layers)}")

    def count(self, architectures: list[Architecture], quantity: Quantity = "parameters") -> NDArray[np.int64]:
        """Exact ``quantity`` of each architecture, shape (N,)."""
        return self.count_sizes(sizes_of(architectures), quantity)

    def count_sizes(self, sizes: Sizes, quantity: Quantity) -> NDArray[np.int64]:
        """Exact ``quantity`` of architectures passed as sizes of shape (N, L, 3); returns shape (N,).

        Only the KV cache of a model with sliding windows is a mean, over the tokens of a full cache; it is rounded up.
        """
        return np.asarray(-(-self.totals(sizes, quantity) // self.tokens(quantity)), dtype=np.int64)

    def totals(self, sizes: Sizes, quantity: Quantity) -> NDArray[np.int64]:
        """Exact ``quantity`` of architectures of ``sizes`` (N, L, 3), for :meth:`tokens` tokens: shape (N,).

        Raises:
            ValueError: the architectures have another number of layers than the model.
            BudgetError: the quantity is a speed, and no times have been measured at this context.
        """
        if sizes.shape[1] != len(self.layers):
            raise ValueError(f"architectures of {sizes.shape[1]} layers of a model of {len(self.layers)}")
        attention, mlp = self.component_costs(sizes, quantity)
        shared = ((sizes[..., 0] > 0) | (sizes[..., 2] > 0)) @ self.shared_costs(quantity)
        return np.asarray(attention.sum(axis=1) + mlp.sum(axis=1) + shared + self.fixed_cost(quantity), dtype=np.int64)

    def component_costs(
        self, sizes: Sizes, quantity: Quantity, layers: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``quantity`` of attention and MLP of each layer, for :meth:`tokens` tokens: two arrays of shape (N, L).

        Every quantity is a sum over components, so a proposal can be brought to the budget one choice at a time. What
        the two components of a layer share is in neither.

        Args:
            sizes: sizes of the layers, shape (N, L, 3).
            quantity: the quantity.
            layers: indices of the layers that the sizes are of; all L by default.
        """
        if quantity in SPEEDS:
            return self._timed(quantity).component_times(sizes, quantity, layers)
        groups, width = sizes[..., 0], sizes[..., 2]
        heads = groups * sizes[..., 1]
        of = slice(None) if layers is None else list(layers)
        base, unit, head, unit_vectors, head_vectors = self._attention[:, of]
        mlp_base, mlp_unit, _, mlp_vectors, _ = self._mlp[:, of]
        if quantity in _PARAMETERS:
            return base * (groups > 0) + unit * groups + head * heads, mlp_base * (width > 0) + mlp_unit * width
        if quantity == "macs":
            projections = (unit - unit_vectors) * groups + (head - head_vectors) * heads
            return projections + 2 * self.head_dim * self._seen[of] * heads, (mlp_unit - mlp_vectors) * width
        cached = self._seen[of] if self._forgets else 1
        return 2 * self.head_dim * KV_CACHE_ITEM_BYTES * cached * groups, np.zeros_like(width)

    def shared_costs(self, quantity: Quantity) -> NDArray[np.int64]:
        """``quantity`` of each layer that counts until both of its components are removed, shape (L,)."""
        return np.array([layer.shared if quantity in _PARAMETERS else 0 for layer in self.layers], dtype=np.int64)

    def fixed_cost(self, quantity: Quantity) -> int:
        """``quantity`` outside the layers, which every architecture has; of a speed, that of the emptied layers too."""
        if quantity in SPEEDS:
            return self._timed(quantity).fixed[SPEEDS.index(quantity)]
        fixed: Mapping[Quantity, int] = {
            "parameters": self.fixed,
            "parameters_without_embeddings": self.fixed - self.embeddings,
            "macs": self.vocabulary * self.hidden_size,
            "kv_cache_bytes": 0,
        }
        return fixed[quantity]

    def tokens(self, quantity: Quantity) -> int:
        """Number of tokens that :meth:`component_costs` are of.

        It is 1, except for the KV cache of a model with sliding windows: that is counted for a whole context, because
        its mean per token is no integer.
        """
        return self.context if quantity == "kv_cache_bytes" and self._forgets else 1

    def at(self, context: int | None) -> "ModelShape":
        """The same model at another context; None for its own."""
        return self if context is None else replace(self, context=context)

    def with_speeds(self, speeds: SpeedTable) -> "ModelShape":
        """The same model with measured times of its components, at their context."""
        return replace(self, speeds=speeds, context=speeds.context)

    @cached_property
    def kinds(self) -> tuple[int, ...]:
        """For each layer, the number of its kind, from 0: layers of one kind differ in nothing but their sizes."""
        distinct = list(dict.fromkeys(self.layers))
        return tuple(distinct.index(layer) for layer in self.layers)

    def _timed(self, speed: Quantity) -> SpeedTable:
        if self.speeds is None or self.speeds.context != self.context:
            raise BudgetError(
                f"{speed} of a {self.family} model has not been measured at context {self.context:,}: run a spec whose "
                "budget limits it at this context, which measures it first"
            )
        return self.speeds

    @cached_property
    def _attention(self) -> NDArray[np.int64]:
        return _table([layer.attention for layer in self.layers])

    @cached_property
    def _mlp(self) -> NDArray[np.int64]:
        return _table([layer.mlp for layer in self.layers])

    @cached_property
    def _seen(self) -> NDArray[np.int64]:
        """Number of tokens that the attention of each layer sees at full context, shape (L,)."""
        windows = [self.context if layer.window is None else layer.window for layer in self.layers]
        return np.minimum(np.array(windows, dtype=np.int64), self.context)

    @cached_property
    def _forgets(self) -> bool:
        """True if the cache of a layer keeps fewer tokens than the context has: those that its attention sees."""
        return self.family not in WHOLE_CACHES and bool((self._seen < self.context).any())


def _table(costs: Sequence[ComponentCost]) -> NDArray[np.int64]:
    """The numbers of costs in the order of :class:`ComponentCost`, for each layer: shape (5, L)."""
    return np.array([astuple(cost) for cost in costs], dtype=np.int64).T
