"""Importance by a Taylor expansion of the loss.

Notation:
    S       number of calibration samples
    L       mean next-token cross-entropy of all samples, L = 1/S sum_s L_s
    w       a weight of a projection
    g       gradient of L with respect to w
    h       diagonal of the Hessian of L by the empirical Fisher matrix, 1/S sum_s (dL_s / dw)^2

A weight that becomes zero changes L by -(w g - w^2 h / 2), to second order.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from prunecast.plugins import ByLayer, DataError, Family, LayerImportance, layers_of, sum_over_units
from prunecast_plugins.pruners.calibrated import Calibrated, CalibratedOptions

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def _in_words(order: object) -> object:
    return {"1": "first", "2": "second"}.get(str(order), order)


Order = Annotated[
    Literal["first", "second", "mixed"],
    BeforeValidator(_in_words, json_schema_input_type=Literal["first", "second", "mixed", 1, 2]),
]


class TaylorOptions(CalibratedOptions):
    """Options of the Taylor pruner."""

    order: Order = Field(
        default="first", description="terms of the expansion: first (or 1), second (or 2), or mixed for both"
    )
    aggregation: Literal["element", "vector"] = Field(
        default="element",
        description="element: sum over a unit of the absolute change of the loss for each weight; vector: absolute "
        "value of the sum of the signed changes",
    )


class Taylor(Calibrated[TaylorOptions]):
    """Estimated change of the loss if the weights of a unit become zero, by a Taylor expansion in each weight.

    L is the mean next-token cross-entropy of all calibration samples, g its gradient, and h the diagonal of its
    Hessian, approximated by that of the empirical Fisher matrix: the mean over samples of their squared gradients. The
    terms are w g (``first``), w^2 h / 2 (``second``) and w g - w^2 h / 2 (``mixed``). Absolute values are taken of each
    weight's term (``element``; LLM-Pruner, arXiv 2305.11627, equations 4 and 5), or of the sum over all weights of a
    unit (``vector``; equation 3, with the Hessian reduced to its diagonal). Both are equal for ``second``, whose terms
    are never negative. Equation 5 sums over samples; here it is a mean, because the loss is a mean.

    Gradients need one float32 copy of the projections, and ``second`` and ``mixed`` another one for their squares.
    """

    options_model = TaylorOptions

    @property
    def by_layer(self) -> ByLayer:
        """Layer by layer, one sample at a time, with gradients."""
        return ByLayer(samples=1, gradients=True)

    def rank_on_text(self, model: "PreTrainedModel", family: Family, tokens: "Tensor") -> list[LayerImportance]:
        """Importance from one backward pass per sample, which adds up gradients and their squares."""
        import torch

        parameters = _projection_parameters(model, family)
        model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        squared = [] if self.options.order == "first" else parameters
        with torch.enable_grad(), _summed_squares(squared) as squares:
            for sample in tokens:
                loss = model(sample[None], labels=sample[None], use_cache=False).loss
                (loss / len(tokens)).backward()
        change = partial(self._change, squares, len(tokens))
        if self.options.aggregation == "element":
            return sum_over_units(model, family, lambda parameter: change(parameter).abs())
        return [_absolute(sums) for sums in sum_over_units(model, family, change)]

    def _change(self, squares: dict["Tensor", "Tensor"], samples: int, parameter: "Tensor") -> "Tensor":
        """Term of the chosen order for each weight, of the parameter's shape."""
        weight, gradient = parameter.detach(), parameter.grad
        if not weight.numel():  # of a component that the model does not have
            return weight
        if gradient is None:
            raise DataError("a projection got no gradient from the calibration text: use longer samples")
        if self.options.order == "first":
            return weight * gradient
        # Squares are of dL_s / dw / samples, as the loss of each sample was divided by the number of samples.
        second = weight.square() * squares[parameter] * (samples / 2)
        return second if self.options.order == "second" else weight * gradient - second


def _projection_parameters(model: "PreTrainedModel", family: Family) -> list["nn.Parameter"]:
    """Parameters of all projections, each once even if projections are fused."""
    projections = (projection for parts in layers_of(model, family) for projection in parts.projections)
    return list(dict.fromkeys(parameter for projection in projections for parameter in projection.module.parameters()))


@contextmanager
def _summed_squares(parameters: Iterable["nn.Parameter"]) -> Iterator[dict["Tensor", "Tensor"]]:
    """Sum of squared gradients for each parameter, float32 of its shape, over the backward passes in the context.

    A hook gets the gradient of a single pass, before it is accumulated.
    """
    import torch

    squares: dict[Tensor, Tensor] = {each: torch.zeros_like(each, dtype=torch.float32) for each in parameters}

    def add(parameter: "Tensor", gradient: "Tensor") -> None:
        squares[parameter].addcmul_(gradient, gradient)

    hooks = [parameter.register_hook(partial(add, parameter)) for parameter in squares]  # type: ignore[no-untyped-call]
    try:
        yield squares
    finally:
        for hook in hooks:
            hook.remove()


def _absolute(sums: LayerImportance) -> LayerImportance:
    return LayerImportance(np.abs(sums.kv_groups), np.abs(sums.query_heads), np.abs(sums.mlp_channels))
