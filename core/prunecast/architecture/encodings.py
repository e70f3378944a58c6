"""Encodings: architectures as feature vectors for regression.

Notation:
    N, P    numbers of architectures
    L       number of layers of the dense model
    B       number of bins of relative depth
    kept    KV groups, heads per group and MLP width of each layer, int64 of shape (N, L, 3)
    dense   the same of the dense model, int64 of shape (1, L, 3)
    heads   kept fraction of the query heads of each layer, shape (N, L)
    width   kept fraction of the MLP width of each layer, shape (N, L)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Floats, sizes_of
from prunecast.architecture.shape import ModelShape

PARTS = 7
"""Number of features per layer in :func:`structured`."""

SMOOTHING = 3.0
"""Distance in layers at which the weight of a neighbouring layer in :func:`smoothed` has decayed to 1/e."""

BINS = 10
"""Default number of bins of relative depth, in which models of different depth are compared."""


def kept_fractions(architectures: Sequence[Architecture], shape: ModelShape) -> Floats:
    """The paper's encoding (arXiv 2309.09507, section 3): one number for attention and one for the MLP of each layer.

    Returns shape (N, 2L), values in [0, 1]: kept query heads and kept MLP channels as fractions of the dense layer; 1
    where the dense layer has none.
    The two numbers of a layer are adjacent: column 2l is the attention of layer l, column 2l + 1 its MLP.
    """
    kept, dense = sizes_of(architectures), sizes_of([shape.dense])
    heads = _share(kept[..., 0] * kept[..., 1], dense[..., 0] * dense[..., 1])
    return np.stack([heads, _share(kept[..., 2], dense[..., 2])], axis=-1).reshape(len(kept), -1)


def kept_fractions_directions(depth: int) -> NDArray[np.int64]:
    """Sign of each column of :func:`kept_fractions` for ``depth`` layers: always 1, as all grow with the kept size."""
    return np.ones(2 * depth, dtype=np.int64)


def structured(architectures: Sequence[Architecture], shape: ModelShape) -> Floats:
    """Several features per layer and six of the whole model: shape (N, 7L + 6), all values in [0, 1].

    Features of each layer, in this order: the kept fractions of KV groups, of heads per group, of query heads and of
    MLP width; 1 if attention is present; 1 if the MLP is present; the squared removed fraction of the MLP width,
    because the loss rises faster the more is removed.

    Features of the model: the mean kept fraction and the mean squared removed fraction over all layers, of query heads,
    of MLP width and of the layer's parameters. The loss depends on these first.
    """
    kept, dense = sizes_of(architectures), sizes_of([shape.dense])
    groups = _share(kept[..., 0], dense[..., 0])
    per_group = _share(kept[..., 1], dense[..., 1])
    width = _share(kept[..., 2], dense[..., 2])
    heads = groups * per_group
    layers = [groups, per_group, heads, width, kept[..., 0] > 0, kept[..., 2] > 0, (1 - width) ** 2]
    attention, mlp = shape.component_costs(kept, "parameters")
    dense_attention, dense_mlp = shape.component_costs(dense, "parameters")
    parameters = _share(attention + mlp, dense_attention + dense_mlp)
    totals = [share.mean(axis=1) for part in (heads, width, parameters) for share in (part, (1 - part) ** 2)]
    return np.concatenate([np.stack(layers, axis=-1).reshape(len(kept), -1), np.stack(totals, axis=1)], axis=1)


def structured_directions(depth: int) -> NDArray[np.int64]:
    """Sign of each column of :func:`structured` for ``depth`` layers: 1 if it grows with the kept size, else -1."""
    return np.array([1, 1, 1, 1, 1, 1, -1] * depth + [1, -1] * 3, dtype=np.int64)


def smoothed(architectures: Sequence[Architecture], shape: ModelShape) -> Floats:
    """Features of each layer and of its neighbourhood: shape (N, 14L + 6), all values in [0, 1].

    The columns of :func:`structured`, followed by its 7L layer features a second time, each averaged over all layers
    with weights exp(-distance / 3). Neighbouring layers do similar work, so that much of what is learned about one
    holds for the next.
    """
    columns, depth = structured(architectures, shape), len(shape.dense.layers)
    layers = columns[:, : PARTS * depth].reshape(len(columns), depth, PARTS)
    layer = np.arange(depth)
    weights = np.exp(-np.abs(layer[:, None] - layer) / SMOOTHING)
    means = np.einsum("nlp,lk->nkp", layers, weights / weights.sum(axis=0))
    return np.concatenate([columns, np.clip(means, 0, 1).reshape(len(columns), -1)], axis=1)


def smoothed_directions(depth: int) -> NDArray[np.int64]:
    """Sign of each column of :func:`smoothed` for ``depth`` layers: 1 if it grows with the kept size, else -1."""
    columns = structured_directions(depth)
    return np.concatenate([columns, columns[: PARTS * depth]])


def relative_depth(architectures: Sequence[Architecture], shape: ModelShape, bins: int = BINS) -> Floats:
    """Encoding that does not depend on the sizes of the model: kept fractions in bins of relative depth.

    Layer l of L spans the relative depth l / L to (l + 1) / L; a bin holds the mean over the part of the depth that it
    spans, so models of any depth get encodings of the same length. No information is lost if ``bins`` is a multiple of
    L.

    Returns shape (N, B, 3), values in [0, 1]: kept fractions of KV groups, of query heads and of MLP width.
    """
    kept, dense = sizes_of(architectures), sizes_of([shape.dense])
    heads = _share(kept[..., 0] * kept[..., 1], dense[..., 0] * dense[..., 1])
    fractions = np.stack([_share(kept[..., 0], dense[..., 0]), heads, _share(kept[..., 2], dense[..., 2])], axis=-1)
    return np.asarray(np.einsum("bl,nlf->nbf", overlaps(bins, fractions.shape[1]), fractions), dtype=np.float64)


def distances(some: Sequence[Architecture], others: Sequence[Architecture], shape: ModelShape) -> Floats:
    """Distances between two sets of architectures, shape (N, P).

    The distance is the root mean square of the differences of :func:`kept_fractions`, over its 2L columns.
    """
    rows, columns = kept_fractions(some, shape), kept_fractions(others, shape)
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1) - 2 * rows @ columns.T
    apart: Floats = np.sqrt(np.maximum(squares, 0) / rows.shape[1])
    return apart


def overlaps(bins: int, depth: int) -> Floats:
    """Fraction of each bin of relative depth that each layer covers, shape (bins, depth); every row sums to 1."""
    # Integers in units of 1 / (bins * depth) of the depth, so that a bin and a layer that only touch overlap by exactly
    # zero.
    slices, layers = np.arange(bins)[:, None] * depth, np.arange(depth)[None, :] * bins
    shared = np.minimum(slices + depth, layers + bins) - np.maximum(slices, layers)
    return np.asarray(np.maximum(shared, 0) / depth, dtype=np.float64)


def _share(kept: NDArray[np.int64], dense: NDArray[np.int64]) -> Floats:
    """Kept fraction; 1 of what the dense model does not have, as nothing of it has been removed."""
    return np.where(dense > 0, kept / np.maximum(dense, 1), 1.0)
