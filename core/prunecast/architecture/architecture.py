"""Architectures: the sizes of every layer of a pruned model.

Notation:
    N  number of architectures
    L  number of decoder layers
    KV  number of KV groups of a layer, each one key head and one value head
    H  number of query heads in each KV group
    W  number of MLP channels of a layer
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Sizes = NDArray[np.int64]
"""Architectures as integers, shape (N, L, 3): KV groups, query heads per group and MLP width of each layer."""

MOST_LAYERS = 10_000
"""Largest number of layers that a text can have: a few digits after ``*`` could ask for any amount of memory."""

_RUN = re.compile(r"(?:(?P<groups>\d+)x(?P<heads>\d+)|0)\+(?P<width>\d+)(?:\*(?P<repeat>\d+))?")


class Layer(NamedTuple):
    """Sizes of one decoder layer after pruning.

    All are counts in ``[0, inf)``; zero means that the component is removed.

    Attributes:
        kv_groups: KV, the number of key/value heads.
        heads_per_group: H, the number of query heads that share one key/value head.
        mlp_width: W, the number of channels of the MLP.
    """

    kv_groups: int
    heads_per_group: int
    mlp_width: int

    @property
    def query_heads(self) -> int:
        """Number of query heads, KV x H."""
        return self.kv_groups * self.heads_per_group


@dataclass(frozen=True, repr=False)
class Architecture:
    """Sizes of every layer of a pruned model. Immutable, canonical and hashable.

    Attention without groups or without heads is stored as ``(0, 0)``, so that two architectures that compute the
    same function are equal. An architecture holds no pruning ratios and no reference to a search space or a model.

    Args:
        layers: one (KV groups, heads per group, MLP width) per layer, first layer first.

    Raises:
        ValueError: there is no layer, or a count is negative or not an integer.
    """

    layers: tuple[Layer, ...]

    def __init__(self, layers: Iterable[Sequence[int]]) -> None:
        object.__setattr__(self, "layers", tuple(map(_canonical_layer, layers)))
        if not self.layers:
            raise ValueError("an architecture needs at least one layer")

    @cached_property
    def key(self) -> str:
        """Content key: 32 hexadecimal digits, the BLAKE2b-16 of :meth:`to_json`. Stable across processes."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON, ``[[KV, H, width], ...]`` without spaces."""
        return f"[{','.join(map(_layer_json, self.layers))}]"

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Inverse of :meth:`to_json`. Raises ValueError if the text is not JSON of that form."""
        layers = json.loads(text)
        if not isinstance(layers, list):
            raise ValueError(f"an architecture in JSON must be a list of [KV, H, width], got {text[:40]!r}")
        return cls(layers)

    @classmethod
    def from_sizes(cls, sizes: Sizes) -> list["Architecture"]:
        """Architectures from an integer array of shape (N, L, 3)."""
        return [cls(layers) for layers in sizes.tolist()]

    def __repr__(self) -> str:
        """The call that makes it: ``Architecture.parse('3x3+1536*30')``."""
        return f"{type(self).__name__}.parse({str(self)!r})"

    def __str__(self) -> str:
        """Compact text: ``KVxH+width`` per layer, equal neighbours as ``*count``, e.g. ``3x3+1536*3 0+768 3x2+0``."""
        runs: list[tuple[Layer, int]] = []
        for layer in self.layers:
            repeat = runs.pop()[1] + 1 if runs and runs[-1][0] == layer else 1
            runs.append((layer, repeat))
        return " ".join(_run_text(layer, repeat) for layer, repeat in runs)

    @classmethod
    def parse(cls, text: str) -> "Architecture":
        """Inverse of ``str``. Raises ValueError naming the part that is not of the form ``KVxH+width[*count]``, or that
        has more than :data:`MOST_LAYERS` layers."""
        layers: list[Layer] = []
        for run in text.split():
            match = _RUN.fullmatch(run)
            if match is None:
                raise ValueError(f"{run!r} is not a layer: write KVxH+width[*count], e.g. 3x2+1024*4 or 0+1024")
            part = match.groupdict(default="0")
            layer = Layer(int(part["groups"]), int(part["heads"]), int(part["width"]))
            repeat = int(match["repeat"] or 1)
            if len(layers) + repeat > MOST_LAYERS:
                raise ValueError(f"{run!r} has more layers than any model: write up to {MOST_LAYERS:,} layers in all")
            layers += [layer] * repeat
        return cls(layers)


@dataclass(frozen=True)
class LayerImportance:
    """Importance scores of the units of one layer; larger is more important. Only their order is used.

    Attributes:
        kv_groups: one score per KV group, shape (KV,).
        query_heads: one score per query head, shape (KV, H); compared only with heads of the same group.
        mlp_channels: one score per MLP channel, shape (W,).
    """

    kv_groups: Floats
    query_heads: Floats
    mlp_channels: Floats


def sizes_of(architectures: Sequence[Architecture]) -> Sizes:
    """Architectures of equal depth as one int64 array of shape (N, L, 3)."""
    # One flat stream of integers: numpy is slow at inspecting nested tuples.
    counts = chain.from_iterable(chain.from_iterable(architecture.layers for architecture in architectures))
    return np.fromiter(counts, dtype=np.int64).reshape(len(architectures), -1, 3)


@cache
def _layer_json(layer: Layer) -> str:
    # Cached because even millions of architectures consist of a few hundred distinct layers.
    return "[{},{},{}]".format(*layer)


def _canonical_layer(layer: Sequence[int]) -> Layer:
    groups, heads, width = layer
    for count in (groups, heads, width):
        if type(count) is not int or count < 0:
            raise ValueError(f"layer {tuple(layer)} must be three non-negative integers (KV groups, heads, width)")
    return Layer(groups, heads, width) if groups and heads else Layer(0, 0, width)


def _run_text(layer: Layer, repeat: int) -> str:
    attention = f"{layer.kv_groups}x{layer.heads_per_group}" if layer.kv_groups else "0"
    return f"{attention}+{layer.mlp_width}" + (f"*{repeat}" if repeat > 1 else "")
