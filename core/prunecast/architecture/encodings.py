"""Encodings: architectures as numbers a regression can learn from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Floats, sizes_of
from prunecast.architecture.shape import ModelShape


def kept_fractions(architectures: Sequence[Architecture], shape: ModelShape) -> Floats:
    """The paper's encoding (arXiv 2309.09507, section 3): one number for attention and one for the MLP of each layer.

    Returns shape (N, 2L), values in [0, 1]: kept query heads and kept channels as fractions of the dense layer. Layers
    first, so column 2l is the attention of layer l.
    """
    kept, dense = sizes_of(architectures), sizes_of([shape.dense])
    heads = _share(kept[..., 0] * kept[..., 1], dense[..., 0] * dense[..., 1])
    return np.stack([heads, _share(kept[..., 2], dense[..., 2])], axis=-1).reshape(len(kept), -1)


PARTS = 7
"""Numbers of each layer in :func:`structured`."""


def structured(architectures: Sequence[Architecture], shape: ModelShape) -> Floats:
    """What a layer keeps, in parts: shape (N, 7L + 6), all values in [0, 1].

    For each layer the kept fractions of KV groups, of heads per group, of query heads and of MLP width, whether
    attention and MLP are there at all, and the squared cut of the width (a cut hurts more the deeper it goes). Then
    for the whole model the mean kept fraction and the mean squared cut of query heads and of width, and of the
    parameters of all layers, which is what the loss depends on first.
    """
    kept, dense = sizes_of(architectures), sizes_of([shape.dense])
    groups = _share(kept[..., 0], dense[..., 0])
    per_group = _share(kept[..., 1], dense[..., 1])
    width = _share(kept[..., 2], dense[..., 2])
    heads = groups * per_group
    layers = [groups, per_group, heads, width, groups > 0, width > 0, (1 - width) ** 2]
    attention, mlp = shape.component_costs(kept, "parameters")
    dense_attention, dense_mlp = shape.component_costs(dense, "parameters")
    parameters = (attention + mlp) / (dense_attention + dense_mlp)
    totals = [share.mean(axis=1) for part in (heads, width, parameters) for share in (part, (1 - part) ** 2)]
    return np.concatenate([np.stack(layers, axis=-1).reshape(len(kept), -1), np.stack(totals, axis=1)], axis=1)


SMOOTHING = 3.0
"""Layers over which the like of a layer's neighbours fades to 1/e in :func:`smoothed`."""


def smoothed(architectures: Sequence[Architecture], shape: ModelShape) -> Floats:
    """What a layer and its neighbours keep: shape (N, 14L + 6), all values in [0, 1].

    The columns of :func:`structured`, then those of its layers once more, each a mean over all layers, weighted by
    exp(-distance / 3): neighbouring layers do similar work, much of what pairs teach about one holds for the next.
    """
    columns, depth = structured(architectures, shape), len(shape.dense.layers)
    layers = columns[:, : PARTS * depth].reshape(len(columns), depth, PARTS)
    layer = np.arange(depth)
    weights = np.exp(-np.abs(layer[:, None] - layer) / SMOOTHING)
    means = np.einsum("nlp,lk->nkp", layers, weights / weights.sum(axis=0))
    return np.concatenate([columns, np.clip(means, 0, 1).reshape(len(columns), -1)], axis=1)


def smoothed_directions(depth: int) -> NDArray[np.int64]:
    """For each column of :func:`smoothed` of ``depth`` layers: 1 if it grows with what is kept, -1 if it shrinks."""
    columns = structured_directions(depth)
    return np.concatenate([columns, columns[: PARTS * depth]])


def kept_fractions_directions(depth: int) -> NDArray[np.int64]:
    """For each column of :func:`kept_fractions` of ``depth`` layers: 1, it grows with what is kept."""
    return np.ones(2 * depth, dtype=np.int64)


def structured_directions(depth: int) -> NDArray[np.int64]:
    """For each column of :func:`structured` of ``depth`` layers: 1 if it grows with what is kept, -1 if it shrinks."""
    return np.array([1, 1, 1, 1, 1, 1, -1] * depth + [1, -1] * 3, dtype=np.int64)


BINS = 10
"""Slices of relative depth that every model is cut into to be compared with others."""


def relative_depth(architectures: Sequence[Architecture], shape: ModelShape, bins: int = BINS) -> Floats:
    """Architectures without the sizes of their model: kept fractions in slices of relative depth.

    Layer l of L reaches from l / L to (l + 1) / L of the depth; a slice holds the mean over its part of the depth, so
    models of any depth come to the same length, and nothing is lost as long as ``bins`` is a multiple of L.

    Returns shape (N, bins, 3), values in [0, 1]: kept fractions of KV groups, of query heads and of MLP width.
    """
    kept, dense = sizes_of(architectures), sizes_of([shape.dense])
    heads = _share(kept[..., 0] * kept[..., 1], dense[..., 0] * dense[..., 1])
    fractions = np.stack([_share(kept[..., 0], dense[..., 0]), heads, _share(kept[..., 2], dense[..., 2])], axis=-1)
    return np.asarray(np.einsum("bl,nlf->nbf", _overlaps(bins, fractions.shape[1]), fractions), dtype=np.float64)


def _overlaps(bins: int, depth: int) -> Floats:
    """Share of each slice that each layer takes, shape (bins, depth); every row sums to 1."""
    # Whole numbers, with the depth in parts of 1 / (bins * depth), so that what does not touch shares exactly nothing.
    slices, layers = np.arange(bins)[:, None] * depth, np.arange(depth)[None, :] * bins
    shared = np.minimum(slices + depth, layers + bins) - np.maximum(slices, layers)
    return np.asarray(np.maximum(shared, 0) / depth, dtype=np.float64)


def _share(kept: NDArray[np.int64], dense: NDArray[np.int64]) -> Floats:
    return np.asarray(kept / np.maximum(dense, 1), dtype=np.float64)


def distances(some: Sequence[Architecture], others: Sequence[Architecture], shape: ModelShape) -> Floats:
    """Root mean squared differences of the kept shares of query heads and channels of all layers, shape (N, P)."""
    rows, columns = kept_fractions(some, shape), kept_fractions(others, shape)
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1) - 2 * rows @ columns.T
    apart: Floats = np.sqrt(np.maximum(squares, 0) / rows.shape[1])
    return apart
