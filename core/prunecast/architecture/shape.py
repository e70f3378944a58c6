"""Sizes of a dense model, and the cost of its architectures.

Notation:
    N  number of architectures
    L  number of decoder layers
    D  width of the residual stream
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Sizes, sizes_of

Quantity = Literal["parameters", "parameters_without_embeddings", "macs", "kv_cache_bytes"]
"""Quantities that a budget can limit. MACs and KV-cache bytes count one token: its multiply-accumulates at full
context, and the bytes of its keys and values in the cache."""

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

KV_CACHE_ITEM_BYTES = 2
"""Bytes of one number in the KV cache: 16 bits, the precision models are usually served in."""


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
class ModelShape:
    """Sizes of a dense model, sufficient to count the cost of any of its architectures without loading it.

    Attributes:
        family: name of the model family, e.g. ``llama``.
        dense: the architecture of the unpruned model, L layers.
        hidden_size: D, the width of the residual stream.
        head_dim: head dimension, the width of one head.
        vocabulary: number of rows of the output projection.
        context: maximum input length in tokens.
        embeddings: parameters of the input and output embeddings (tied ones count once).
        fixed: all parameters outside the layers' attention and MLP, embeddings included.
        attention, mlp: parameter counts of the two components, the same in every layer.
    """

    family: str
    dense: Architecture
    hidden_size: int
    head_dim: int
    vocabulary: int
    context: int
    embeddings: int
    fixed: int
    attention: ComponentCost
    mlp: ComponentCost

    def count(self, architectures: list[Architecture], quantity: Quantity = "parameters") -> NDArray[np.int64]:
        """Exact ``quantity`` of each architecture, shape (N,)."""
        return self.count_sizes(sizes_of(architectures), quantity)

    def count_sizes(self, sizes: Sizes, quantity: Quantity) -> NDArray[np.int64]:
        """Exact ``quantity`` of architectures passed as sizes of shape (N, L, 3); returns shape (N,)."""
        attention, mlp = self.component_costs(sizes, quantity)
        total: NDArray[np.int64] = attention.sum(axis=1) + mlp.sum(axis=1) + self._fixed(quantity)
        return total

    def component_costs(self, sizes: Sizes, quantity: Quantity) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``quantity`` of attention and of the MLP in each layer, two arrays of shape (N, L).

        Every quantity is a sum over components, so a proposal can be brought to the budget one choice at a time.
        """
        groups, width = sizes[..., 0], sizes[..., 2]
        heads = groups * sizes[..., 1]
        a, m = self.attention, self.mlp
        if quantity in ("parameters", "parameters_without_embeddings"):
            return a.base * (groups > 0) + a.unit * groups + a.head * heads, m.base * (width > 0) + m.unit * width
        if quantity == "macs":
            scores = 2 * self.head_dim * self.context * heads
            projections = (a.unit - a.unit_vectors) * groups + (a.head - a.head_vectors) * heads
            return projections + scores, (m.unit - m.unit_vectors) * width
        return 2 * self.head_dim * KV_CACHE_ITEM_BYTES * groups, np.zeros_like(width)

    def _fixed(self, quantity: Quantity) -> int:
        fixed: Mapping[Quantity, int] = {
            "parameters": self.fixed,
            "parameters_without_embeddings": self.fixed - self.embeddings,
            "macs": self.vocabulary * self.hidden_size,
            "kv_cache_bytes": 0,
        }
        return fixed[quantity]
