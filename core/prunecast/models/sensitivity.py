"""What a step in any layer changes, to second order, from one forward and a few backward passes.

Let y be what a layer puts out under the architecture the model is switched to, y' what it would put out for the same
input if it alone kept something else, and d = y' - y. Then a loss changes by

    <g, d> + 1/2 d' H d,

the Taylor expansion that importances of weights are made of (optimal brain damage, LeCun et al., 1990; Molchanov et
al., arXiv 1611.06440), but around an architecture instead of the dense model, and in the outputs of whole layers, so
that what compensation makes of every width is in it, and steps may be large. g is the gradient of the loss with respect
to y. For H stands the Gauss-Newton matrix E[s s'], s the gradient of a random score of the loss
(:class:`prunecast.models.loss.Loss`), so that d' H d is the mean of <s, d>^2 over its draws, and those are independent
for each row of each batch. The same gradients serve every step of every layer.

A step may throw single rows far out, such as one whose first token then no longer draws the attention it drew. What the
expansion says of those, the square above all, is nothing a loss would do, and one such row outweighs all others. So the
sum over rows is a winsorised one.
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
"""Raised when the same options would give other estimates."""

OUTLYING = 20.0
"""Times what the median row changes, to either order, that a row counts for at most."""

Change = tuple[float, float]
"""What a step changes, in the unit of the loss: to first order, and what the second order adds."""

Changes = dict[tuple[int, Layer], Change]
"""By layer and by what it would keep instead."""


def changes_of(
    elastic: ElasticModel,
    losses: "Callable[[PreTrainedModel], Iterable[Loss]]",
    steps: Collection[tuple[int, Layer]],
) -> Changes:
    """Changes of a loss for every step, each taken by itself.

    Costs a forward pass of the layers from the first that has steps on, backward passes for value and scores, and a
    forward pass of a layer for each of its steps: where a step leaves the attention alone, without the attention and,
    but for the widest, without the projections that widen the MLP, for what narrower steps see of those is a prefix.

    Args:
        elastic: the elastic model, switched to the architecture around which steps are taken; it is again afterwards.
        losses: for the model, one a batch; their values add up to the loss.
        steps: a layer, and what it might keep instead of what it keeps.
    """
    if not steps:
        return {}
    by_layer: dict[int, list[Layer]] = defaultdict(list)
    for layer, kept in sorted(set(steps), key=lambda step: step[1].mlp_width, reverse=True):
        by_layer[layer].append(kept)
    layers = sorted(by_layer)
    rows: dict[tuple[int, Layer], list[NDArray[np.float32]]] = defaultdict(list)
    with torch.inference_mode(mode=False), torch.enable_grad(), _watched(elastic, layers) as calls:
        for loss in losses(elastic.model):
            gradients = _gradients(loss, [calls[layer].output for layer in layers])
            with torch.no_grad(), _returning(elastic) as centre:
                for layer, directions in zip(layers, gradients, strict=True):
                    found = _of_layer(elastic, centre, layer, by_layer[layer], calls[layer], directions)
                    for kept, of_batch in zip(by_layer[layer], found, strict=True):
                        rows[layer, kept].append(of_batch)
    return {step: _winsorised(np.concatenate(rows[step]).astype(np.float64)) for step in steps}


def _winsorised(rows: NDArray[np.float64]) -> Change:
    """Sum over rows (R, 2), each to either order at most ``OUTLYING`` times the median row."""
    most = OUTLYING * np.median(np.abs(rows), axis=0)
    most[most == 0] = np.inf
    first, second = np.clip(rows, -most, most).sum(axis=0)
    return float(first), float(second)


def _gradients(loss: Loss, outputs: Sequence[Tensor]) -> "list[tuple[Tensor, ...]]":
    """For each output those of the value, ``_enlarged`` times, and of each score, (B, T, D); zero without a way."""
    of_scalars = [
        torch.autograd.grad(scalar, outputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        for scalar in (loss.value * _enlarged(outputs[0]), *loss.scores)
    ]
    return list(zip(*of_scalars, strict=True))


def _enlarged(output: Tensor) -> int:
    """Factor that a value's gradients are taken with: those of a mean over many tokens are too small for float16.

    About the number of tokens in a batch (B, T, D), and a power of two, so that wider formats round as without it.
    """
    return 1 << (output.shape[:-1].numel().bit_length() - 1)


def _of_layer(
    elastic: ElasticModel,
    centre: Architecture,
    layer: int,
    steps: Sequence[Layer],
    call: "_Call",
    gradients: Sequence[Tensor],
) -> list[NDArray[np.float32]]:
    """What each of a layer's steps, widest first, changes of each row (B, 2), given gradients of value and scores."""
    watched = elastic.layers[layer]
    before = call.output.float()
    directions = torch.stack(list(gradients), dim=1).flatten(2).float()
    same_attention = _answers(call, watched)
    found = []
    for kept in steps:
        elastic.apply(_with(centre, layer, kept))
        with _answering(same_attention if kept[:2] == centre.layers[layer][:2] else {}):
            step = call.again(watched.module).float() - before
        along = torch.bmm(directions, step.flatten(1)[..., None])[..., 0]
        changes = (along[:, 0] / _enlarged(before), along[:, 1:].square().mean(dim=1) / 2)
        found.append(torch.stack(changes, dim=1).numpy(force=True))
    return found


@contextmanager
def _returning(elastic: ElasticModel) -> Iterator[Architecture]:
    """What the model is switched to, and again afterwards even if a step fails: out of memory, it is tried again."""
    architecture = elastic.architecture
    try:
        yield architecture
    finally:
        elastic.apply(architecture)


def _with(architecture: Architecture, layer: int, kept: Layer) -> Architecture:
    layers = architecture.layers
    return Architecture((*layers[:layer], kept, *layers[layer + 1 :]))


@dataclass
class _Call:
    """A call of a layer: what went in, what its attention answered, if it has any, and what came out."""

    hidden: Tensor
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    attention: Any
    output: Tensor

    def again(self, layer: nn.Module) -> Tensor:
        """What the layer as it is now puts out for the same input, (B, T, D)."""
        return _hidden(layer(self.hidden, *self.arguments, **self.options))


def _answers(call: _Call, layer: ElasticLayer) -> "dict[nn.Module, Callable[..., Any]]":
    """What modules of a layer answer without computing it again, as long as its attention stays the same."""
    answers: dict[nn.Module, Callable[..., Any]] = {module: _Prefix(module) for module in layer.widening}
    if call.attention is not None:
        answers[layer.attention] = lambda *_, **__: call.attention
    return answers


@dataclass
class _Prefix:
    """What a projection puts out, (..., rows it keeps), for an input it has seen when it kept at least as many."""

    module: ShrinkingOutput
    widest: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.widest is None:
            self.widest = ShrinkingOutput.forward(self.module, x)
        return self.widest[..., : self.module.rows]


@contextmanager
def _answering(answers: "Mapping[nn.Module, Callable[..., Any]]") -> Iterator[None]:
    """Let modules answer in place of their forward passes."""
    for module, answer in answers.items():
        module.forward = answer
    try:
        yield
    finally:
        for module in answers:
            del module.forward


@contextmanager
def _watched(elastic: ElasticModel, layers: Sequence[int]) -> Iterator[dict[int, _Call]]:
    """The latest call of each layer that was made with gradients. Below the first of them no gradient is taken."""
    calls: dict[int, _Call] = {}
    answers: dict[int, Any] = {}
    hooks = [elastic.layers[layers[0]].module.register_forward_pre_hook(_root)]
    for layer in layers:
        watched = elastic.layers[layer]
        hooks.append(watched.attention.register_forward_hook(partial(_note_answer, answers, layer)))
        hooks.append(watched.module.register_forward_hook(partial(_note, calls, answers, layer), with_kwargs=True))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _root(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let the graph of gradients begin at the hidden states that go in."""
    hidden, *rest = arguments
    return (hidden.detach().requires_grad_(torch.is_grad_enabled()), *rest)


def _note_answer(answers: dict[int, Any], layer: int, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
    if torch.is_grad_enabled():
        answers[layer] = output


def _note(
    calls: dict[int, _Call],
    answers: dict[int, Any],
    layer: int,
    _: nn.Module,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    output: Any,
) -> None:
    if torch.is_grad_enabled():
        hidden, *rest = arguments
        uncached = {name: _uncached(option) for name, option in options.items()}
        calls[layer] = _Call(
            hidden.detach(), tuple(map(_uncached, rest)), uncached, answers.get(layer), _hidden(output)
        )


def _uncached(argument: Any) -> Any:
    """What a layer is given when it is called again: no cache, which by then holds its own keys and values."""
    return None if isinstance(argument, Cache) else argument


def _hidden(output: Any) -> Tensor:
    """Hidden states among what a layer returns."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
