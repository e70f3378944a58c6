"""Importance by optimal brain surgery, for pruning with least-squares compensation.

Notation:
    K, D    numbers of inputs and outputs of an output projection
    x       inputs of the projection at one token, shape (K,)
    g       gradient of the loss with respect to its output at one token, shape (D,)
    W       transposed weight of the projection, shape (K, D)
    H       damped second moment of the inputs, E[x x'] + damping, shape (K, K)
    L       Cholesky factor of the damped second moment of the gradients, L L' = E[g g'], shape (D, D)
    S       set of inputs that are removed together, those of one unit

Expectations are over all calibration tokens, and x' is the transpose of x.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from prunecast.plugins import (
    ByLayer,
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
from prunecast_plugins.pruners.calibrated import PrunerTexts, text_for

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

STEPS = 192
"""Number of steps in which the channels of an MLP are removed; W and H^-1 are updated once per step."""


GRADIENT_DAMPING = 1e-6
"""Damping of E[g g'], in units of its mean diagonal: the moment is singular if the text has few tokens."""


class OBSOptions(PrunerOptions):
    """Options of the optimal-brain-surgery pruner."""

    calibration: PrunerTexts = Field(
        default=(CalibrationOptions(samples=32, tokens=512),),
        description="text or texts for inputs and gradients of the output projections, all with the same tokens",
    )
    outputs: Literal["loss", "alike"] = Field(
        default="loss",
        description="weight of errors of the output projections; loss: by the gradient of the loss at the output; "
        "alike: equal in all directions, which needs no backward pass",
    )
    damping: float = Field(
        default=0.01, gt=0, description="added to the diagonal of the second moment, in units of the mean squared input"
    )


class OBS(Pruner[OBSOptions]):
    """Order of a greedy removal of units, in which the remaining units compensate each removal optimally.

    Units feed inputs x to an output projection with weight W (K, D). Removing the inputs S, with the best linear
    correction of the weights of the others, increases the loss by

        1/2 tr( (W_S L)' ([H^-1]_SS)^-1 W_S L ),      H = E[x x'] + damping,      L L' = E[g g'],

    where g is the gradient of the loss at the output. This is optimal brain surgery (Hassibi and Stork, 1993,
    equation 5) for a set of inputs, with the Hessian of the loss approximated by a Kronecker product of the moments of
    inputs and gradients (Martens and Grosse, arXiv 1503.05671, section 3). With ``outputs: alike`` L is the identity,
    as in OSSCAR (arXiv 2403.12983) and ZipLM (arXiv 2302.04089). The units of lowest cost are removed first; after each
    step W and H^-1 are updated to the remaining inputs. The importance of a unit is its position in this order, so that
    the units kept at any size are those that a greedy removal keeps.

    Needs one forward pass over the text and, for ``outputs: loss``, one backward pass. Memory: K x K float32 numbers
    for every output projection, and twice that, in float64, for one of them at a time.
    """

    options_model = OBSOptions

    @property
    def calibration(self) -> tuple[CalibrationOptions, ...]:
        """The calibration texts of the options."""
        return self.options.calibration

    @property
    def by_layer(self) -> ByLayer:
        """Layer by layer, one sample at a time, with gradients for ``outputs: loss``."""
        return ByLayer(samples=1, gradients=self.options.outputs == "loss")

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "Tensor | None") -> list[LayerImportance]:
        """Gather moments, then order the removal of all units layer by layer. Raises DataError without text."""
        text = text_for(self, tokens)
        layers = list(layers_of(model, family))
        projections = [projection.module for parts in layers for projection in parts.outputs]
        gather = _gradient_pass if self.options.outputs == "loss" else _forward_pass
        with _recorded_moments(projections) as moments:
            gather(model, text)
        return [self._importance(parts, moments) for parts in layers]

    def _importance(self, parts: LayerParts, moments: "dict[nn.Module, _Moments]") -> LayerImportance:
        groups, heads = (np.zeros(0), np.zeros((0, 0)))
        if parts.sizes.kv_groups:
            groups, heads = self._of_attention(parts, moments[parts.output.module])
        channels = np.zeros(0)
        if parts.sizes.mlp_width:
            mlp = self._problem(parts.down.weight(), moments[parts.down.module])
            channels = mlp.order(1, math.ceil(mlp.size / STEPS))
        return LayerImportance(kv_groups=groups, query_heads=heads, mlp_channels=channels)

    def _of_attention(self, parts: LayerParts, moments: "_Moments") -> tuple[Floats, Floats]:
        """Scores of the KV groups, shape (KV,), and of the query heads of each, shape (KV, H)."""
        attention = self._problem(parts.output.weight(), moments)
        group_width = parts.sizes.heads_per_group * parts.head_dim
        heads_of_groups = [
            attention.only(range(group * group_width, (group + 1) * group_width)).order(parts.head_dim)
            for group in range(parts.sizes.kv_groups)
        ]
        return attention.order(group_width), np.stack(heads_of_groups)

    def _problem(self, weight: "Tensor", moments: "_Moments") -> "_Removal":
        """The removal problem of a projection with weight (D, K)."""
        import torch

        second = _mean(moments.inputs, moments.tokens)
        inverse = torch.linalg.inv(_damped(second, self.options.damping))
        outputs = where_float64_is(weight.detach()).t().double()
        if moments.gradients is not None:
            outputs = outputs @ _square_root(_mean(moments.gradients, moments.tokens))
        return _Removal(inverse, outputs)


@dataclass
class _Moments:
    """Sums over tokens of x x' (K, K) and, after a backward pass, of g g' (D, D), in float32."""

    inputs: "Tensor"
    gradients: "Tensor | None" = None
    tokens: int = 0


@dataclass(frozen=True)
class _Removal:
    """Removal of inputs from a projection, with compensation by the remaining ones.

    Attributes:
        inverse: H^-1, float64 of shape (K, K).
        weight: W L, float64 of shape (K, D).
    """

    inverse: "Tensor"
    weight: "Tensor"

    @property
    def size(self) -> int:
        """Number of inputs K."""
        return len(self.weight)

    def only(self, inputs: range) -> "_Removal":
        """The problem restricted to the removal of a range of consecutive inputs."""
        chosen = slice(inputs.start, inputs.stop)
        return _Removal(self.inverse[chosen, chosen], self.weight[chosen])

    def order(self, width: int, together: int = 1) -> Floats:
        """Position in the order of removal of each unit of ``width`` consecutive inputs, shape (K / width,).

        Each step removes ``together`` units and then updates the problem.
        """
        import torch

        position = np.zeros(self.size // width)
        left = torch.arange(len(position))
        problem = self
        while len(left):
            cheapest = problem._costs(width).argsort()[:together]
            first = len(position) - len(left)
            position[left[cheapest].numpy()] = np.arange(first, first + len(cheapest))
            stays = torch.ones(len(left), dtype=torch.bool)
            stays[cheapest] = False
            problem, left = problem._without(stays.repeat_interleave(width)), left[stays]
        return position

    def _costs(self, width: int) -> "Tensor":
        """Cost of removing each unit alone, on the CPU, shape (units,)."""
        import torch

        if width == 1:  # the blocks are scalars; batched solves of them would dominate the time of a step
            return (self.weight.square().sum(1) / self.inverse.diagonal()).cpu()
        rows = self.weight.reshape(-1, width, self.weight.shape[1])
        blocks = self.inverse.reshape(len(rows), width, len(rows), width).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        costs: Tensor = (rows * torch.linalg.solve(blocks, rows)).sum((1, 2))
        return costs.cpu()

    def _without(self, stays: "Tensor") -> "_Removal":
        """The problem after the removal of the inputs not in ``stays`` (K,), with compensated weights."""
        import torch

        stays = stays.to(self.weight.device)
        across = self.inverse[stays][:, ~stays]
        shift = torch.linalg.solve(self.inverse[~stays][:, ~stays], across.T).T
        return _Removal(
            self.inverse[stays][:, stays] - shift @ across.T, self.weight[stays] - shift @ self.weight[~stays]
        )


@contextmanager
def _recorded_moments(projections: "Sequence[nn.Module]") -> "Iterator[dict[nn.Module, _Moments]]":
    """Moments of each projection's inputs and of the gradients at its output, recorded while the context is open."""
    moments: dict[nn.Module, _Moments] = {}

    def record_inputs(projection: "nn.Module", inputs: "tuple[Tensor, ...]", output: "Tensor") -> None:
        second = _second_moment(inputs[0])
        known = moments.setdefault(projection, _Moments(second.new_zeros(second.shape)))
        known.inputs += second
        known.tokens += inputs[0].shape[:-1].numel()
        if output.requires_grad:
            output.register_hook(partial(record_gradient, known))  # type: ignore[no-untyped-call]

    def record_gradient(known: _Moments, gradient: "Tensor") -> None:
        second = _second_moment(gradient)
        known.gradients = second if known.gradients is None else known.gradients.add_(second)

    hooks = [projection.register_forward_hook(record_inputs) for projection in projections]
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()


def _second_moment(vectors: "Tensor") -> "Tensor":
    """Sum of x x' over all vectors x (..., K), float32 of shape (K, K)."""
    rows = vectors.detach().flatten(0, -2).float()
    return rows.T @ rows


def _forward_pass(model: "PreTrainedModel", text: "Tensor") -> None:
    import torch

    with torch.no_grad():
        for sample in text:
            model.base_model(sample[None], use_cache=False)


def _gradient_pass(model: "PreTrainedModel", text: "Tensor") -> None:
    """Forward and backward passes through activations only: parameters get no gradients."""
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
                # The sum over tokens, so that every token has the same weight.
                (loss * (sample.numel() - 1)).backward()
    finally:
        hook.remove()


def _mean(total: "Tensor", tokens: int) -> "Tensor":
    return where_float64_is(total).double() / tokens


def _square_root(moment: "Tensor") -> "Tensor":
    """L with L L' equal to the moment (D, D), which is damped to be positive definite even for a short text."""
    import torch

    root: Tensor = torch.linalg.cholesky(_damped(moment, GRADIENT_DAMPING))
    return root


def _damped(moment: "Tensor", damping: float) -> "Tensor":
    """The moment (K, K) plus ``damping`` times its mean diagonal on the diagonal; definite even if it is zero."""
    import torch

    scale = moment.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    return moment + damping * scale * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
