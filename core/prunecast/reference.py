"""The reference model: architectures of any model as architectures of one, so that a predictor can learn from all."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from prunecast.architecture import Architecture
from prunecast.encodings import BINS, relative_depth
from prunecast.shape import ComponentCost, ModelShape

STEPS = 120
"""KV groups, heads per group and channels of a layer of the reference model: divisible by most head counts."""


def reference_shape(shape: ModelShape) -> ModelShape:
    """The reference model with attention and MLP in the proportions of ``shape``: :data:`~prunecast.encodings.BINS`
    layers with :data:`STEPS` KV groups, heads per group and channels each."""
    dense = shape.dense.layers[0]
    attention, mlp = shape.attention, shape.mlp
    return replace(
        shape,
        dense=Architecture([(STEPS, STEPS, STEPS)] * BINS),
        attention=ComponentCost(
            base=0, unit=attention.unit * dense.kv_groups * STEPS, head=attention.head * dense.query_heads
        ),
        mlp=ComponentCost(base=0, unit=mlp.unit * dense.mlp_width * STEPS),
    )


def at_reference(architectures: Sequence[Architecture], shape: ModelShape) -> list[Architecture]:
    """``architectures`` of a model as architectures of the reference model, by relative depth and kept fractions.

    Heads per group are the kept heads over the kept groups of a slice; everything is rounded to whole steps.
    """
    groups, heads, width = np.moveaxis(relative_depth(architectures, shape), -1, 0)
    per_group = np.divide(heads, groups, out=np.zeros_like(heads), where=groups > 0)
    steps = np.rint(np.stack([groups, per_group, width], axis=-1) * STEPS).astype(np.int64)
    return Architecture.from_sizes(steps)
