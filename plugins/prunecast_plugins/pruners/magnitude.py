"""Magnitude importance."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from prunecast.plugins import Family, LayerImportance, Pruner, PrunerOptions, sum_over_units

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class MagnitudeOptions(PrunerOptions):
    """Options of the magnitude pruner."""

    norm: Literal["l1", "l2"] = Field(default="l2", description="sum of absolute (l1) or squared (l2) weights")


class Magnitude(Pruner[MagnitudeOptions]):
    """Sum of absolute or squared weights of a unit (arXiv 1608.08710, section 3.1). Looks at no text."""

    options_model = MagnitudeOptions

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """Sum over the weights of each unit."""
        power = {"l1": 1, "l2": 2}[self.options.norm]
        return sum_over_units(model, family, lambda parameter: parameter.detach().abs() ** power)
