"""Loss of a batch, from which local sensitivities are estimated. Imports no torch, so plugins import it cheaply."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Loss(NamedTuple):
    """Differentiable contribution of one batch to a metric.

    The rows of the batch must not depend on one another.

    Attributes:
        value: the contribution, a scalar.
        scores: at least one random scalar; more of them estimate the curvature more precisely. Their gradients s with
            respect to hidden states are independent of one another and have mean zero, and E[s s'] is the Gauss-Newton
            matrix of ``value``. For a mean cross-entropy over N tokens, or a divergence, a score is the summed loss of
            labels drawn from the model's own predictions, divided by sqrt(N) (Martens and Grosse, arXiv 1503.05671,
            section 2).
    """

    value: "torch.Tensor"
    scores: "Sequence[torch.Tensor]"
