"""The loss of a batch, from which local sensitivities are estimated. Free of torch: plugins import it cheaply."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Loss(NamedTuple):
    """The share of a batch in a metric, to take gradients of.

    Attributes:
        value: a scalar.
        scores: scalars with random gradients g at hidden states, independent of one another and zero in the mean, such
            that E[g g'] is the Gauss-Newton matrix of ``value``; at least one, and the more the surer. Of a mean
            cross-entropy over N tokens, or a divergence: the loss of labels drawn from the model's own predictions,
            summed, over sqrt(N) (Martens and Grosse, arXiv 1503.05671, section 2). Rows of a batch must not depend on
            one another.
    """

    value: "torch.Tensor"
    scores: "Sequence[torch.Tensor]"
