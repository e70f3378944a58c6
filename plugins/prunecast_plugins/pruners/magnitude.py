"""Importance by the magnitude of weights."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from prunecast.plugins import ByLayer, Family, LayerImportance, Pruner, PrunerOptions, sum_over_units

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class MagnitudeOptions(PrunerOptions):
    """Options of the magnitude pruner."""

    norm: Literal["l1", "l2"] = Field(default="l2", description="sum of absolute (l1) or squared (l2) weights")


class Magnitude(Pruner[MagnitudeOptions]):
    """Sum of absolute or squared weights of a unit (arXiv 1608.08710, section 3.1). Needs no calibration text."""

    options_model = MagnitudeOptions

    @property
    def by_layer(self) -> ByLayer:
        """Layer by layer, from the weights alone."""
        return ByLayer(samples=1)

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """Sum of absolute or squared weights over each unit."""
        power = {"l1": 1, "l2": 2}[self.options.norm]
        return sum_over_units(model, family, lambda parameter: parameter.detach().abs() ** power)
