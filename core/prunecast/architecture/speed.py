"""Measured times of the components of a model, from which the speed of every architecture is predicted.

Notation:
    N  number of architectures
    L  number of decoder layers
    G  number of KV groups of a component, H  number of query heads in each of them
    W  number of MLP channels
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Sizes

Speed = Literal["prefill_ms", "decode_ms"]
"""Quantities that are measured: the time of one forward pass over a batch of prompts, and of one token for each of
them with the prompts in the KV cache."""

SPEEDS: tuple[Speed, ...] = get_args(Speed)

NANOSECONDS = 1_000_000
"""Nanoseconds of one millisecond: times are whole numbers of nanoseconds, so that they add up exactly."""


class Times(NamedTuple):
    """Nanoseconds of a prefill and of a decoding step."""

    prefill: int
    decode: int


@dataclass(frozen=True)
class LayerTimes:
    """Times of the components of one layer: what each adds to a layer that has none.

    Attributes:
        attention: (KV groups, query heads per group) and the times of an attention of this size.
        mlp: widths, ascending, and the times of an MLP of this width; the first is 0.
    """

    attention: tuple[tuple[int, int, Times], ...]
    mlp: tuple[tuple[int, Times], ...]


@dataclass(frozen=True)
class SpeedTable:
    """Measured times of one model on one device, in one dtype.

    A time is predicted as a sum: that of the model without any component, and that of the components of each layer.
    Widths that have not been measured are interpolated linearly between those that have. Sizes of attention that have
    not been measured follow from a least-squares fit of a + b G + c G H to those that have.

    Attributes:
        batch: number of sequences.
        context: tokens of each prompt.
        fixed: times of the model without any component: embeddings, the rest of every layer, final norm and head.
        kinds: for each of L layers, its position in ``layers``.
        layers: times of each kind of layer.
    """

    batch: int
    context: int
    fixed: Times
    kinds: tuple[int, ...]
    layers: tuple[LayerTimes, ...]

    def component_times(
        self, sizes: Sizes, speed: Speed, layers: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Nanoseconds of attention and MLP of each layer: two arrays of the shape of ``sizes`` without its last axis.

        Args:
            sizes: sizes of the layers, shape (N, L, 3).
            speed: prefill or decoding.
            layers: indices of the layers that the sizes are of; all L by default.
        """
        column = SPEEDS.index(speed)
        kinds = np.array(self.kinds)[slice(None) if layers is None else list(layers)]
        attention, mlp = np.zeros_like(sizes[..., 0]), np.zeros_like(sizes[..., 2])
        for kind in set(kinds.tolist()):
            of = kinds == kind
            attention[:, of] = _attention_times(self._grids[kind][..., column], sizes[:, of])
            measured = self.layers[kind].mlp
            widths, times = [width for width, _ in measured], [time[column] for _, time in measured]
            mlp[:, of] = np.rint(np.interp(sizes[:, of, 2], widths, times)).astype(np.int64)
        return attention, mlp

    @property
    def sizes(self) -> list[dict[str, Any]]:
        """The measured sizes of each kind of layer, JSON-able: those of ``attention``, and the ``widths`` of MLPs."""
        return [
            {
                "attention": [[groups, heads] for groups, heads, _ in each.attention],
                "widths": [width for width, _ in each.mlp],
            }
            for each in self.layers
        ]

    @cached_property
    def _grids(self) -> list[NDArray[np.int64]]:
        return [_attention_grid(each.attention) for each in self.layers]

    def to_json(self) -> str:
        """The table as JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "SpeedTable":
        """Inverse of :meth:`to_json`."""
        content: dict[str, Any] = json.loads(text)
        layers = [
            LayerTimes(
                tuple((groups, heads, Times(*times)) for groups, heads, times in each["attention"]),
                tuple((width, Times(*times)) for width, times in each["mlp"]),
            )
            for each in content["layers"]
        ]
        kinds, fixed = tuple(content["kinds"]), Times(*content["fixed"])
        return cls(content["batch"], content["context"], fixed, kinds, tuple(layers))


def _attention_times(grid: NDArray[np.int64], sizes: Sizes) -> NDArray[np.int64]:
    """Times from a grid of shape (G + 1, H + 1); sizes beyond it have the times of its end."""
    groups, heads = (np.minimum(sizes[..., axis], grid.shape[axis] - 1) for axis in (0, 1))
    return np.asarray(grid[groups, heads])


def _attention_grid(measured: Sequence[tuple[int, int, Times]]) -> NDArray[np.int64]:
    """Times of every attention up to the largest measured one, shape (G + 1, H + 1, 2); of none, 0."""
    most_groups = max((groups for groups, _, _ in measured), default=0)
    most_heads = max((heads for _, heads, _ in measured), default=0)
    groups, heads = np.mgrid[: most_groups + 1, : most_heads + 1]
    grid = np.zeros((*groups.shape, len(SPEEDS)), dtype=np.int64)
    if not measured:
        return grid
    at = tuple(np.array([size[:2] for size in measured]).T)
    features = np.stack([np.ones_like(groups), groups, groups * heads], axis=-1).astype(np.float64)
    times = np.array([size[2] for size in measured], dtype=np.float64)
    fitted = features @ np.linalg.lstsq(features[at], times, rcond=None)[0]
    grid[:] = np.maximum(np.rint(fitted), 0)
    grid[at] = times
    grid[(groups == 0) | (heads == 0)] = 0
    return grid
