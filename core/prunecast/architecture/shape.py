"""Sizes of a dense model, and the cost of its architectures.

Notation:
    N  number of architectures
    L  number of decoder layers
    D  width of the residual stream
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
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
        context: maximum input length in tokens.
        embeddings: parameters of the input and output embeddings (tied ones count once).
        fixed: all parameters outside the layers' attention and MLP, embeddings included.
        layers: costs of each layer, L of them.
        bos: True if the family's models need a beginning-of-sequence token in front of every text.
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

    def count(self, architectures: list[Architecture], quantity: Quantity = "parameters") -> NDArray[np.int64]:
        """Exact ``quantity`` of each architecture, shape (N,)."""
        return self.count_sizes(sizes_of(architectures), quantity)

    def count_sizes(self, sizes: Sizes, quantity: Quantity) -> NDArray[np.int64]:
        """Exact ``quantity`` of architectures passed as sizes of shape (N, L, 3); returns shape (N,)."""
        attention, mlp = self.component_costs(sizes, quantity)
        total: NDArray[np.int64] = attention.sum(axis=1) + mlp.sum(axis=1) + self._fixed(quantity)
        if quantity in ("parameters", "parameters_without_embeddings"):
            total += ((sizes != 0).any(axis=2) * self._each("shared")).sum(axis=1)
        return total

    def component_costs(self, sizes: Sizes, quantity: Quantity) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``quantity`` of attention and of the MLP in each layer, two arrays of shape (N, L).

        Every quantity is a sum over components, so a proposal can be brought to the budget one choice at a time.
        Parameters that the two components of a layer share are in neither.
        """
        groups, width = sizes[..., 0], sizes[..., 2]
        heads = groups * sizes[..., 1]
        base, unit, head, unit_vectors, head_vectors = self._of_component("attention")
        mlp_base, mlp_unit, _, mlp_vectors, _ = self._of_component("mlp")
        if quantity in ("parameters", "parameters_without_embeddings"):
            return base * (groups > 0) + unit * groups + head * heads, mlp_base * (width > 0) + mlp_unit * width
        if quantity == "macs":
            scores = 2 * self.head_dim * self.context * heads
            return (unit - unit_vectors) * groups + (head - head_vectors) * heads + scores, (
                mlp_unit - mlp_vectors
            ) * width
        return 2 * self.head_dim * KV_CACHE_ITEM_BYTES * groups, np.zeros_like(width)

    def _of_component(self, component: str) -> NDArray[np.int64]:
        """The numbers of a component's cost, in the order of :class:`ComponentCost`, for each layer: shape (5, L)."""
        return np.array([astuple(getattr(layer, component)) for layer in self.layers], dtype=np.int64).T

    def _each(self, name: str) -> NDArray[np.int64]:
        return np.array([getattr(layer, name) for layer in self.layers], dtype=np.int64)

    def _fixed(self, quantity: Quantity) -> int:
        fixed: Mapping[Quantity, int] = {
            "parameters": self.fixed,
            "parameters_without_embeddings": self.fixed - self.embeddings,
            "macs": self.vocabulary * self.hidden_size,
            "kv_cache_bytes": 0,
        }
        return fixed[quantity]
