"""First-order Taylor importance."""

from typing import TYPE_CHECKING

from pydantic import Field

from prunecast.errors import DataError
from prunecast.interfaces import CalibrationOptions, LayerImportance, PrunerOptions, Pruner
from prunecast.models.families import Family
from prunecast.models.units import sum_over_units

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class TaylorOptions(PrunerOptions):
    """Options of the Taylor pruner."""

    calibration: CalibrationOptions = Field(
        default=CalibrationOptions(), description="text whose loss the importance is about"
    )


class Taylor(Pruner[TaylorOptions]):
    """How much the loss would change, to first order, if a weight became zero: |w dL/dw|, summed over a unit.

    L is the mean next-token cross-entropy of all calibration samples; the absolute value is taken weight by weight
    (LLM-Pruner, arXiv 2305.11627, equation 5, ``param_first`` with element-wise aggregation).
    """

    options_model = TaylorOptions

    @property
    def calibration(self) -> CalibrationOptions:
        """The text given in the options."""
        return self.options.calibration

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """One backward pass a sample, gradients added up."""
        import torch

        if tokens is None:
            raise DataError("the taylor pruner needs calibration text: give it `calibration: {dataset: ...}`")
        model.requires_grad_(True)
        with torch.enable_grad():
            for sample in tokens:
                loss = model(sample[None], labels=sample[None], use_cache=False).loss
                (loss / len(tokens)).backward()
        return sum_over_units(model, family, _first_order)


def _first_order(parameter: "torch.Tensor") -> "torch.Tensor":
    if parameter.grad is None:
        raise DataError("a projection got no gradient from the calibration text: use longer samples")
    return (parameter.detach() * parameter.grad).abs()
