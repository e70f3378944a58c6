"""Nearest measured architectures to a given one.

Notation:
    N      number of measured architectures
    L      number of layers
    sizes  KV groups, heads per group and MLP width of each layer, int64 of shape (N, L, 3)
    units  KV groups, query heads and MLP channels of each layer, int64 of shape (N, L, 3)
    w      parameters of one KV group, one query head and one MLP channel of each layer, shape (L, 3)
    u, v   units of two architectures, shape (L, 3); d: those of the dense model
    distance  sum(|u - v| * w) / sum(d * w)
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Floats, Sizes, sizes_of
from prunecast.architecture.shape import ModelShape
from prunecast.errors import RegistryError
from prunecast.registry.queries.selection import Filter, Selection
from prunecast.registry.queries.series import Series, find_series
from prunecast.registry.store import Registry
from prunecast.text import counted

CHUNK = 20_000
"""Number of architectures compared at once."""


def nearest(registry: Registry, architecture: Architecture, wanted: Filter, limit: int = 10) -> list[dict[str, Any]]:
    """The measured architectures nearest to ``architecture``, nearest first; ties in the order of recording.

    The distance is the sum over layers of the absolute differences in KV groups, query heads and MLP channels, each
    times the parameters of one, divided by that sum for the dense model against an empty one. It is 0 for the
    architecture itself and 1 between the dense model and an architecture without attention and MLPs.

    Args:
        registry: the registry.
        architecture: the architecture to compare with; it need not have been measured.
        wanted: filters.
        limit: largest number of rows.

    Returns:
        Rows with ``distance`` and the columns of :func:`prunecast.registry.queries.selection.query`.

    Raises:
        RegistryError: no measured model has as many layers, or what ``query`` raises.
    """
    depth = len(architecture.layers)
    known = find_series(registry, wanted.model, wanted.metrics)
    found = [series for series in known if len(series.shape.dense.layers) == depth]
    if known and not found:
        depths = sorted({len(series.shape.dense.layers) for series in known})
        raise RegistryError(
            f"the architecture has {counted(depth, 'layer')}, the measured ones {', '.join(map(str, depths))}: "
            "name one of those"
        )
    selection = Selection(registry, found, wanted)
    rows: list[dict[str, Any]] = []
    for series in found:
        with selection.opened(series) as opened:
            measured = opened.rows([("place", False)])
        apart = np.concatenate([*_distances(registry, measured, architecture, series), np.zeros(0)])
        nearest_first = np.argsort(apart, kind="stable")[:limit]
        rows += [{"distance": float(apart[i]), **measured[i]} for i in nearest_first]
    rows = sorted(rows, key=lambda row: float(row["distance"]))[:limit]
    readable = selection.readable(rows)
    return [{"distance": row["distance"], **columns} for row, columns in zip(rows, readable, strict=True)]


def distances(sizes: Sizes, architecture: Architecture, shape: ModelShape) -> Floats:
    """Distances as of :func:`nearest`, shape (N,), of architectures of ``sizes`` (N, L, 3) to ``architecture``."""
    weights = np.array([(layer.attention.unit, layer.attention.head, layer.mlp.unit) for layer in shape.layers])
    differing = np.abs(_units(sizes) - _units(sizes_of([architecture])))
    apart = np.tensordot(differing, weights, axes=2)
    return np.asarray(apart / (_units(sizes_of([shape.dense])) * weights).sum(), dtype=np.float64)


def _units(sizes: Sizes) -> NDArray[np.int64]:
    """KV groups, query heads and channels of each layer, shape (N, L, 3)."""
    return np.stack([sizes[..., 0], sizes[..., 0] * sizes[..., 1], sizes[..., 2]], axis=-1)


def _distances(
    registry: Registry, rows: list[dict[str, Any]], architecture: Architecture, series: Series
) -> Iterator[Floats]:
    layers = {row["id"]: list(row.values())[1:] for row in registry.rows("SELECT * FROM layers")}
    sizes = np.zeros((max(layers, default=0) + 1, 3), dtype=np.int64)
    for number, layer in layers.items():
        sizes[number] = layer
    for start in range(0, len(rows), CHUNK):
        numbers = json.loads(f"[{','.join(row['layer_ids'] for row in rows[start : start + CHUNK])}]")
        yield distances(sizes[np.array(numbers)], architecture, series.shape)
