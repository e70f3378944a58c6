"""A pruner: a unit is as important as its weights are large."""

from typing import TYPE_CHECKING

from pydantic import Field

from prunecast.architecture.architecture import LayerImportance
from prunecast.models.families import Family
from prunecast.models.units import sum_over_units
from prunecast.plugins.interfaces import Pruner, PrunerOptions

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class NormsOptions(PrunerOptions):
    """Options of the pruner."""

    power: float = Field(
        default=2.0, gt=0, description="power the absolute weights are raised to before they are summed"
    )


class Norms(Pruner[NormsOptions]):
    """Sum of powers of the absolute weights that go with a unit; needs no text."""

    options_model = NormsOptions

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """One sum a unit."""
        return sum_over_units(model, family, lambda weight: weight.detach().abs() ** self.options.power)
