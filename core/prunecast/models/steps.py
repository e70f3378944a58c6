"""What a step in any layer changes, to second order, from one forward and a few backward passes.

Let y be what a layer puts out under the architecture the model is switched to, y' what it would put out for the same
input if it alone kept something else, and d = y' - y. Then a loss changes by

    <g, d> + 1/2 d' H d,

the Taylor expansion that importances of weights are made of (optimal brain damage, LeCun et al., 1990; Molchanov et
al., arXiv 1611.06440), but around an architecture instead of the dense model, and in the outputs of whole layers, so
that what compensation makes of every width is in it, and steps may be large. g is the gradient of the loss with respect
to y. For H stands the Gauss-Newton matrix E[s s'], s the gradient of a random score of the loss
(:class:`prunecast.interfaces.Loss`), so that d' H d is the mean of <s, d>^2 over its draws, and those are independent
for each row of each batch. The same gradients serve every step of every layer.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunecast.architecture import Architecture, Layer
from prunecast.interfaces import Loss
from prunecast.models.elastic import ElasticModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
    forward pass of a layer for each of its steps, without the attention where a step leaves that alone.

    Args:
        elastic: the elastic model, switched to the architecture around which steps are taken; it is again afterwards.
        losses: for the model, one a batch; their values add up to the loss.
        steps: a layer, and what it might keep instead of what it keeps.
    """
    changes: Changes = dict.fromkeys(steps, (0.0, 0.0))
    if not changes:
        return changes
    layers = sorted({layer for layer, _ in changes})
    with torch.inference_mode(mode=False), torch.enable_grad(), _watched(elastic, layers) as calls:
        for loss in losses(elastic.model):
            outputs = [calls[layer].output for layer in layers]
            gradients = dict(zip(layers, zip(*_gradients(loss, outputs), strict=True), strict=True))
            with torch.no_grad(), _returning(elastic) as centre:
                for layer, kept in changes:
                    elastic.apply(_with(centre, layer, kept))
                    alone = kept[:2] == centre.layers[layer][:2]
                    slope, *scores = gradients[layer]
                    first, second = calls[layer].change(elastic.layers[layer].module, slope, scores, alone)
                    changes[layer, kept] = (changes[layer, kept][0] + first, changes[layer, kept][1] + second)
    return changes


def _gradients(loss: Loss, outputs: Sequence[Tensor]) -> "list[tuple[Tensor, ...]]":
    """Those of the value and of each score, (B, T, D) for each output; zero where there is no way to it."""
    return [
        torch.autograd.grad(scalar, outputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        for scalar in (loss.value, *loss.scores)
    ]


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
    attention: "_Answer | None"
    output: Tensor

    def change(self, layer: nn.Module, slope: Tensor, scores: Sequence[Tensor], same_attention: bool) -> Change:
        """What the layer as it is now changes, given gradients (B, T, D) of value and scores."""
        answer = self.attention if same_attention else None
        with answer.again() if answer else nullcontext():
            changed = _hidden(layer(self.hidden, *self.arguments, **self.options))
        step = changed.float() - self.output.float()
        curvatures = [(step * score.float()).sum(dim=(1, 2)).square().sum() for score in scores]
        return float((step * slope.float()).sum()), float(sum(curvatures)) / len(curvatures) / 2


@dataclass
class _Answer:
    """What an attention module put out."""

    module: nn.Module
    output: Any

    @contextmanager
    def again(self) -> Iterator[None]:
        """Let the module put it out again without computing anything."""
        self.module.forward = lambda *_, **__: self.output
        try:
            yield
        finally:
            del self.module.forward


@contextmanager
def _watched(elastic: ElasticModel, layers: Sequence[int]) -> Iterator[dict[int, _Call]]:
    """The latest call of each layer that was made with gradients. Below the first of them no gradient is taken."""
    calls: dict[int, _Call] = {}
    answers: dict[int, _Answer] = {}
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


def _note_answer(answers: dict[int, _Answer], layer: int, module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
    if torch.is_grad_enabled():
        answers[layer] = _Answer(module, output)


def _note(
    calls: dict[int, _Call],
    answers: dict[int, _Answer],
    layer: int,
    _: nn.Module,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    output: Any,
) -> None:
    if torch.is_grad_enabled():
        hidden, *rest = arguments
        calls[layer] = _Call(hidden.detach(), tuple(rest), options, answers.get(layer), _hidden(output))


def _hidden(output: Any) -> Tensor:
    """Hidden states among what a layer returns."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
