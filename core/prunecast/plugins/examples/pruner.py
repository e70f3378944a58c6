"""A pruner: the importance of a unit is a norm of its weights."""

from typing import TYPE_CHECKING

from pydantic import Field

from prunecast.plugins import Family, LayerImportance, Pruner, PrunerOptions, sum_over_units

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class NormsOptions(PrunerOptions):
    """Options of the pruner."""

    power: float = Field(default=2.0, gt=0, description="exponent of the absolute weights before summation")


class Norms(Pruner[NormsOptions]):
    """Sum of powers of the absolute weights of a unit; needs no calibration text."""

    options_model = NormsOptions

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """One sum per unit."""
        return sum_over_units(model, family, lambda weight: weight.detach().abs() ** self.options.power)
