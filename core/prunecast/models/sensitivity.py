"""Local sensitivities of a loss: effect of changing one layer of an architecture, to second order.

One forward pass and a few backward passes around an architecture, the expansion point, serve all changes of all layers.

Notation:
    B, T, D  rows of a batch, tokens of a row, hidden size
    r, k     index of a row, index of one of the random scores of a loss (:class:`prunecast.models.loss.Loss`)
    y        output of a layer at the expansion point, shape (B, T, D)
    y'       output of the layer for the same input if it alone keeps other sizes, shape (B, T, D)
    d        y' - y, shape (B, T, D)
    g        gradient of the loss with respect to y, shape (B, T, D)
    s        gradient of a random score with respect to y, shape (B, T, D), drawn independently for each row
    H        Gauss-Newton matrix E[s s'] of the loss with respect to y

The change of the loss is expanded around y, and d' H d is estimated from the scores, row by row:

    <g, d> + 1/2 d' H d,      d' H d ~ sum over r of the mean over k of <s_kr, d_r>^2.

This is the Taylor expansion behind importances of weights (optimal brain damage, LeCun et al., 1990; Molchanov et al.,
arXiv 1611.06440), with two differences. It is taken around any architecture instead of the dense model. And it is taken
in the outputs of whole layers instead of the weights, so d includes the compensation of every size, and may be large.

A change can move a few rows very far, for example rows whose first token no longer attracts the attention it did. For
these rows the expansion, above all its square, exceeds any change that a loss would show, and a single one can outweigh
all others. Sums over rows are therefore winsorised.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Cache

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.models.elastic import ElasticLayer, ElasticModel
from prunecast.models.loss import Loss
from prunecast.models.projections import ShrinkingOutput

if TYPE_CHECKING:
    from transformers import PreTrainedModel


VERSION = 2
"""Version of the estimates, raised when the same options would give different ones."""

OUTLYING = 20.0
"""Winsorisation limit: the largest contribution of a row to either order, in units of the median absolute one."""

Sensitivity = tuple[float, float]
"""First-order change of the loss and second-order term, <g, d> and 1/2 d' H d, in the unit of the loss."""

Sensitivities = dict[tuple[int, Layer], Sensitivity]
"""Sensitivity to each change, by layer and by the sizes it would keep."""


def local_sensitivities(
    elastic: ElasticModel,
    losses: "Callable[[PreTrainedModel], Iterable[Loss]]",
    changes: Collection[tuple[int, Layer]],
) -> Sensitivities:
    """Sensitivities of a loss to single-layer changes, around the current architecture of the model.

    Cost for each batch: a forward pass, of which the layers from the first changed one on keep their graph; a backward
    pass for the loss and for each score; and a forward pass of one layer for each change. A change that leaves the
    attention of its layer as it is reuses the output of the attention. Such changes also share the outputs of the
    projections that widen the MLP: narrower MLPs use a prefix of the outputs of the widest.

    Args:
        elastic: the elastic model, switched to the expansion point, to which it is switched back afterwards.
        losses: yields the losses of a model, one for each batch; their values add up to the loss.
        changes: the changes, each a layer and the sizes it keeps instead of its current ones.
    """
    if not changes:
        return {}
    by_layer: dict[int, list[Layer]] = defaultdict(list)
    for layer, kept in sorted(set(changes), key=lambda change: change[1].mlp_width, reverse=True):
        by_layer[layer].append(kept)
    layers = sorted(by_layer)
    rows: dict[tuple[int, Layer], list[NDArray[np.float32]]] = defaultdict(list)
    with torch.inference_mode(mode=False), torch.enable_grad(), _recorded_calls(elastic, layers) as calls:
        for loss in losses(elastic.model):
            gradients = _gradients(loss, [calls[layer].output for layer in layers])
            with torch.no_grad(), _restoring(elastic) as point:
                for layer, of_layer in zip(layers, gradients, strict=True):
                    found = _row_terms(elastic, point, layer, by_layer[layer], calls[layer], of_layer)
                    for kept, of_batch in zip(by_layer[layer], found, strict=True):
                        rows[layer, kept].append(of_batch)
    return {change: _winsorised_sum(np.concatenate(rows[change]).astype(np.float64)) for change in changes}


def _winsorised_sum(rows: NDArray[np.float64]) -> Sensitivity:
    """Sum of the terms of all rows, shape (R, 2), each clipped to ``OUTLYING`` times the median absolute term."""
    limit = OUTLYING * np.median(np.abs(rows), axis=0)
    limit[limit == 0] = np.inf
    first, second = np.clip(rows, -limit, limit).sum(axis=0)
    return float(first), float(second)


def _gradients(loss: Loss, outputs: Sequence[Tensor]) -> "list[tuple[Tensor, ...]]":
    """Gradients with respect to each output, each (B, T, D): g times ``_gradient_scale``, then s of each score.

    Zero for an output that the loss does not depend on.
    """
    of_scalars = [
        torch.autograd.grad(scalar, outputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        for scalar in (loss.value * _gradient_scale(outputs[0]), *loss.scores)
    ]
    return list(zip(*of_scalars, strict=True))


def _gradient_scale(output: Tensor) -> int:
    """Factor of the loss in the backward pass, as gradients of a mean over many tokens underflow in float16.

    About the number of tokens in a batch (B, T, D). A power of two, so that wider formats round as without it.
    """
    return 1 << (output.shape[:-1].numel().bit_length() - 1)


def _row_terms(
    elastic: ElasticModel,
    point: Architecture,
    layer: int,
    sizes: Sequence[Layer],
    call: "_Call",
    gradients: Sequence[Tensor],
) -> list[NDArray[np.float32]]:
    """First-order and second-order term of every row, shape (B, 2), for each of the sizes that a layer may keep.

    Args:
        elastic: the elastic model, whose architecture is left changed.
        point: the expansion point.
        layer: index of the layer.
        sizes: sizes to change to, widest MLP first.
        call: call of the layer at the expansion point.
        gradients: g times ``_gradient_scale``, then s of each score, each (B, T, D).
    """
    changed = elastic.layers[layer]
    before = call.output.float()
    directions = torch.stack(list(gradients), dim=1).flatten(2).float()
    reusable = _reusable_outputs(call, changed)
    found = []
    for kept in sizes:
        elastic.apply(_with_layer(point, layer, kept))
        with _substituted(reusable if kept[:2] == point.layers[layer][:2] else {}):
            difference = call.repeat(changed.module).float() - before
        along = torch.bmm(directions, difference.flatten(1)[..., None])[..., 0]
        terms = (along[:, 0] / _gradient_scale(before), along[:, 1:].square().mean(dim=1) / 2)
        found.append(torch.stack(terms, dim=1).numpy(force=True))
    return found


@contextmanager
def _restoring(elastic: ElasticModel) -> Iterator[Architecture]:
    """Yield the current architecture and switch back to it at the end.

    Also after an error: the caller tries again after running out of memory.
    """
    architecture = elastic.architecture
    try:
        yield architecture
    finally:
        elastic.apply(architecture)


def _with_layer(architecture: Architecture, layer: int, kept: Layer) -> Architecture:
    layers = architecture.layers
    return Architecture((*layers[:layer], kept, *layers[layer + 1 :]))


@dataclass
class _Call:
    """A recorded call of a layer.

    Attributes:
        hidden: hidden states passed to it, (B, T, D).
        arguments, options: further arguments.
        attention: output of its attention module; None if the layer has no attention.
        output: hidden states it returned, (B, T, D).
    """

    hidden: Tensor
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    attention: Any
    output: Tensor

    def repeat(self, layer: nn.Module) -> Tensor:
        """Output of the layer, with its current sizes, for the same input, (B, T, D)."""
        return _hidden(layer(self.hidden, *self.arguments, **self.options))


def _reusable_outputs(call: _Call, layer: ElasticLayer) -> "dict[nn.Module, Callable[..., Any]]":
    """Forward passes that return known outputs, by module, for changes that leave the attention of a layer as it is."""
    reusable: dict[nn.Module, Callable[..., Any]] = {module: _PrefixOfWidest(module) for module in layer.widening}
    if call.attention is not None:
        reusable[layer.attention] = lambda *_, **__: call.attention
    return reusable


@dataclass
class _PrefixOfWidest:
    """Forward pass of a projection that computes its output once and returns the kept prefix of it, (..., rows).

    All calls have to be for the same input, and the first has to keep the most rows.
    """

    module: ShrinkingOutput
    widest: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.widest is None:
            self.widest = ShrinkingOutput.forward(self.module, x)
        return self.widest[..., : self.module.rows]


@contextmanager
def _substituted(forwards: "Mapping[nn.Module, Callable[..., Any]]") -> Iterator[None]:
    """Replace the forward passes of modules."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


@contextmanager
def _recorded_calls(elastic: ElasticModel, layers: Sequence[int]) -> Iterator[dict[int, _Call]]:
    """Latest call of each layer with gradients enabled. No gradient is computed below the first of the layers."""
    calls: dict[int, _Call] = {}
    attentions: dict[int, Any] = {}
    hooks = [elastic.layers[layers[0]].module.register_forward_pre_hook(_start_graph)]
    for index in layers:
        layer = elastic.layers[index]
        hooks.append(layer.attention.register_forward_hook(partial(_record_attention, attentions, index)))
        hooks.append(
            layer.module.register_forward_hook(partial(_record_call, calls, attentions, index), with_kwargs=True)
        )
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _start_graph(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook that makes the hidden states a leaf of the autograd graph."""
    hidden, *rest = arguments
    return (hidden.detach().requires_grad_(torch.is_grad_enabled()), *rest)


def _record_attention(attentions: dict[int, Any], layer: int, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
    if torch.is_grad_enabled():
        attentions[layer] = output


def _record_call(
    calls: dict[int, _Call],
    attentions: dict[int, Any],
    layer: int,
    _: nn.Module,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    output: Any,
) -> None:
    if torch.is_grad_enabled():
        hidden, *rest = arguments
        uncached = {name: _without_cache(option) for name, option in options.items()}
        calls[layer] = _Call(
            hidden.detach(), tuple(map(_without_cache, rest)), uncached, attentions.get(layer), _hidden(output)
        )


def _without_cache(argument: Any) -> Any:
    """The argument, or None for a KV cache, which holds the keys and values of this call when it is repeated."""
    return None if isinstance(argument, Cache) else argument


def _hidden(output: Any) -> Tensor:
    """Hidden states among the return values of a layer."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
