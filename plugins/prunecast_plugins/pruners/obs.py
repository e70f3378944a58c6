"""Importance by optimal brain surgery: the order that suits compensation by least squares."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from prunecast.plugins import (
    CalibrationOptions,
    DataError,
    Family,
    Floats,
    LayerImportance,
    LayerParts,
    Pruner,
    PrunerOptions,
    layers_of,
    where_float64_is,
)
from prunecast_plugins.pruners.calibrated import text_for

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

STEPS = 192
"""Steps in which the channels of an MLP go: solutions are updated once a step, for a few channels at a time."""


GRADIENT_DAMPING = 1e-6
"""Added to the diagonal of the gradients' moment, in units of its mean, which a text of few tokens leaves singular."""


class OBSOptions(PrunerOptions):
    """Options of the optimal-brain-surgery pruner."""

    calibration: tuple[CalibrationOptions, ...] = Field(
        default=(CalibrationOptions(samples=32, tokens=512),),
        min_length=1,
        description="texts that inputs and gradients of the output projections are taken from, all of equal tokens",
    )
    outputs: Literal["loss", "alike"] = Field(
        default="loss",
        description="what an error of the output projections costs: loss, by the gradient of the loss there; alike, "
        "the same in every direction, which needs no backward pass",
    )
    damping: float = Field(
        default=0.01, gt=0, description="added to the second moment, in units of the mean squared input"
    )

    @model_validator(mode="after")
    def _equal_lengths(self) -> Self:
        if len({text.tokens for text in self.calibration}) > 1:
            raise ValueError("all calibration texts need the same number of tokens a sample")
        return self


class OBS(Pruner[OBSOptions]):
    """What is lost when a unit goes and the units that stay make up for it as well as they can, in the order they go.

    Units feed inputs x to an output projection W (K, D_out). Removing the inputs S, with the best linear correction of
    the others, costs

        1/2 tr( (W_S L)' ([H^-1]_SS)^-1 W_S L ),      H = E[x x'] + damping,      L L' = E[g g'],

    where g is the gradient of the loss at the output: optimal brain surgery (Hassibi and Stork, 1993, equation 5) for
    a set of inputs, with the Hessian of the loss approximated by a Kronecker product of input and gradient moments
    (Martens and Grosse, arXiv 1503.05671, section 3). With ``outputs: alike`` L is the identity, as in OSSCAR
    (arXiv 2403.12983) and ZipLM (arXiv 2302.04089). The cheapest units go first; after each step W and H^-1 are those
    of what is left. A unit's rank is when it goes, so every prefix of the order is what a greedy removal would keep.

    Needs one pass over the text, forward and, for ``outputs: loss``, backward; memory for K x K numbers an output
    projection, in float32, and twice that in float64 for one of them at a time.
    """

    options_model = OBSOptions

    @property
    def calibration(self) -> tuple[CalibrationOptions, ...]:
        """The texts given in the options."""
        return self.options.calibration

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "Tensor | None") -> list[LayerImportance]:
        """Gather moments, then remove everything, layer by layer. Raises DataError without text."""
        text = text_for(self, tokens)
        layers = list(layers_of(model, family))
        projections = [projection.module for parts in layers for projection in (parts.output, parts.down)]
        gather = _gradient_pass if self.options.outputs == "loss" else _forward_pass
        with _listening(projections) as moments:
            gather(model, text)
        groups, _ = family.heads_of(model.config)
        return [self._importance(parts, moments, groups) for parts in layers]

    def _importance(self, parts: LayerParts, moments: "dict[nn.Module, _Moments]", groups: int) -> LayerImportance:
        attention = self._problem(parts.output.weight(), moments[parts.output.module])
        group_width = attention.size // groups
        heads = group_width // parts.head_dim
        inside = [
            attention.only(range(group * group_width, (group + 1) * group_width)).order(parts.head_dim)
            for group in range(groups)
        ]
        mlp = self._problem(parts.down.weight(), moments[parts.down.module])
        return LayerImportance(
            kv_groups=attention.order(group_width),
            query_heads=np.stack(inside).reshape(groups, heads),
            mlp_channels=mlp.order(1, math.ceil(mlp.size / STEPS)),
        )

    def _problem(self, weight: "Tensor", moments: "_Moments") -> "_Removal":
        """The removal problem of a projection with weight (D_out, K)."""
        import torch

        second = _mean(moments.inputs, moments.tokens)
        inverse = torch.linalg.inv(_damped(second, self.options.damping))
        outputs = where_float64_is(weight.detach()).t().double()
        if moments.gradients is not None:
            outputs = outputs @ _square_root(_mean(moments.gradients, moments.tokens))
        return _Removal(inverse, outputs)


@dataclass
class _Moments:
    """Sums over tokens of x x' (K, K) of the inputs and, if there was a backward pass, of g g' (D, D), float32."""

    inputs: "Tensor"
    gradients: "Tensor | None" = None
    tokens: int = 0


@dataclass(frozen=True)
class _Removal:
    """Inputs that can be removed from a projection, the others making up for them.

    Attributes:
        inverse: inverse of the damped second moment, float64 (K, K).
        weight: what each input contributes, in units in which all outputs cost alike, float64 (K, D).
    """

    inverse: "Tensor"
    weight: "Tensor"

    @property
    def size(self) -> int:
        """Number of inputs K."""
        return len(self.weight)

    def only(self, inputs: range) -> "_Removal":
        """The problem in which just these inputs, neighbours of one another, may go."""
        chosen = slice(inputs.start, inputs.stop)
        return _Removal(self.inverse[chosen, chosen], self.weight[chosen])

    def order(self, width: int, together: int = 1) -> Floats:
        """When each unit of ``width`` neighbouring inputs goes, ``together`` units a step: shape (K / width,)."""
        import torch

        gone_at = np.zeros(self.size // width)
        left = torch.arange(len(gone_at))
        problem = self
        while len(left):
            cheapest = problem._costs(width).argsort()[:together]
            first = len(gone_at) - len(left)
            gone_at[left[cheapest].numpy()] = np.arange(first, first + len(cheapest))
            stays = torch.ones(len(left), dtype=torch.bool)
            stays[cheapest] = False
            problem, left = problem._without(stays.repeat_interleave(width)), left[stays]
        return gone_at

    def _costs(self, width: int) -> "Tensor":
        """Cost of removing each unit alone, on the CPU, shape (units,)."""
        import torch

        if width == 1:  # the blocks are numbers: solving 1,536 of them takes longer than the rest of a step
            return (self.weight.square().sum(1) / self.inverse.diagonal()).cpu()
        rows = self.weight.reshape(-1, width, self.weight.shape[1])
        blocks = self.inverse.reshape(len(rows), width, len(rows), width).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        costs: Tensor = (rows * torch.linalg.solve(blocks, rows)).sum((1, 2))
        return costs.cpu()

    def _without(self, stays: "Tensor") -> "_Removal":
        """What is left when the inputs not in ``stays`` (K,) have gone and the others have made up for them."""
        import torch

        stays = stays.to(self.weight.device)
        across = self.inverse[stays][:, ~stays]
        shift = torch.linalg.solve(self.inverse[~stays][:, ~stays], across.T).T
        return _Removal(
            self.inverse[stays][:, stays] - shift @ across.T, self.weight[stays] - shift @ self.weight[~stays]
        )


@contextmanager
def _listening(projections: "Sequence[nn.Module]") -> "Iterator[dict[nn.Module, _Moments]]":
    """Moments of the inputs of each projection, and of the gradients at its output, while the model runs."""
    moments: dict[nn.Module, _Moments] = {}

    def hear(projection: "nn.Module", inputs: "tuple[Tensor, ...]", output: "Tensor") -> None:
        second = _second_moment(inputs[0])
        known = moments.setdefault(projection, _Moments(second.new_zeros(second.shape)))
        known.inputs += second
        known.tokens += inputs[0].shape[:-1].numel()
        if output.requires_grad:
            output.register_hook(partial(feel, known))  # type: ignore[no-untyped-call]

    def feel(known: _Moments, gradient: "Tensor") -> None:
        second = _second_moment(gradient)
        known.gradients = second if known.gradients is None else known.gradients.add_(second)

    hooks = [projection.register_forward_hook(hear) for projection in projections]
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()


def _second_moment(vectors: "Tensor") -> "Tensor":
    """Sum of x x' over all vectors (..., K), float32 of shape (K, K)."""
    rows = vectors.detach().flatten(0, -2).float()
    return rows.T @ rows


def _forward_pass(model: "PreTrainedModel", text: "Tensor") -> None:
    import torch

    with torch.no_grad():
        for sample in text:
            model.base_model(sample[None], use_cache=False)


def _gradient_pass(model: "PreTrainedModel", text: "Tensor") -> None:
    """Forward and backward through activations alone: no parameter gets a gradient."""
    import torch

    model.requires_grad_(False)
    embeddings: nn.Module = model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    try:
        with torch.enable_grad():
            for sample in text:
                loss = model(sample[None], labels=sample[None], use_cache=False).loss
                if not torch.isfinite(loss):
                    raise DataError("the loss on the calibration text is not finite: use another text or dtype")
                # The sum over tokens, so that samples of any length count alike.
                (loss * (sample.numel() - 1)).backward()
    finally:
        hook.remove()


def _mean(total: "Tensor", tokens: int) -> "Tensor":
    return where_float64_is(total).double() / tokens


def _square_root(moment: "Tensor") -> "Tensor":
    """L with L L' = the moment (D, D), made definite where the text was too short to be."""
    import torch

    root: Tensor = torch.linalg.cholesky(_damped(moment, GRADIENT_DAMPING))
    return root


def _damped(moment: "Tensor", damping: float) -> "Tensor":
    """The moment (K, K) with ``damping`` times its mean diagonal added there; definite even where it is zero."""
    import torch

    scale = moment.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    return moment + damping * scale * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
