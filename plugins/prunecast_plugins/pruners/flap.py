"""Importance by fluctuation of activations (FLAP)."""

from typing import TYPE_CHECKING

from prunecast.plugins import ByLayer, Family, LayerImportance
from prunecast_plugins.pruners.calibrated import Calibrated, CalibratedOptions
from prunecast_plugins.pruners.inputs import BY_LAYER, InputMoments, rank_by_inputs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class FLAP(Calibrated[CalibratedOptions]):
    """Sum of Var(X_j) ||W_j||^2 over the inputs j that a unit feeds to its output projection.

    The variance is over all calibration tokens, and W_j is the weight column of input j. A term is the mean squared
    error of the output if input j alone is replaced by its mean, as ``compensate: bias`` does (FLAP, arXiv 2312.11983,
    metric WIFV). The authors' released code also squares the scores of attention before it averages those of a head;
    here they are summed without squaring.
    """

    options_model = CalibratedOptions

    @property
    def by_layer(self) -> ByLayer:
        """Layer by layer, from its inputs alone."""
        return BY_LAYER

    def rank_on_text(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor") -> list[LayerImportance]:
        """One forward pass over the text."""
        return rank_by_inputs(model, family, tokens, _squared_weights_times_variance)


def _squared_weights_times_variance(weight: "torch.Tensor", inputs: InputMoments) -> "torch.Tensor":
    return weight.square().sum(0) * inputs.variance
