"""Importance by absolute weights and norms of activations (Wanda)."""

from typing import TYPE_CHECKING

from prunecast.plugins import ByLayer, Family, LayerImportance
from prunecast_plugins.pruners.calibrated import Calibrated, CalibratedOptions
from prunecast_plugins.pruners.inputs import BY_LAYER, InputMoments, rank_by_inputs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Activation(Calibrated[CalibratedOptions]):
    """Sum of |W_ij| ||X_j|| over the inputs j that a unit feeds to its output projection, and over all outputs i.

    ||X_j|| is the Euclidean norm of input j over all calibration tokens (Wanda, arXiv 2306.11695, equation 1, summed
    over structures).
    """

    options_model = CalibratedOptions

    @property
    def by_layer(self) -> ByLayer:
        """Layer by layer, from its inputs alone."""
        return BY_LAYER

    def rank_on_text(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor") -> list[LayerImportance]:
        """One forward pass over the text."""
        return rank_by_inputs(model, family, tokens, _weights_times_norm)


def _weights_times_norm(weight: "torch.Tensor", inputs: InputMoments) -> "torch.Tensor":
    return weight.abs().sum(0) * inputs.norm
