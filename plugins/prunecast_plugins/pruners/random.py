"""Random importance, as a control."""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from prunecast.plugins import Family, LayerImportance, Pruner, PrunerOptions, layers_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class RandomOptions(PrunerOptions):
    """Options of the random pruner."""

    seed: int = Field(default=0, ge=0, description="seed of the random order")


class Random(Pruner[RandomOptions]):
    """Units in random order, as a control for other pruners. Uses neither weights nor calibration text."""

    options_model = RandomOptions

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """Importance drawn uniformly from [0, 1)."""
        rng = np.random.default_rng(self.options.seed)
        sizes = [parts.sizes for parts in layers_of(model, family)]
        return [
            LayerImportance(rng.random(groups), rng.random((groups, heads)), rng.random(width))
            for groups, heads, width in sizes
        ]
