"""What a step in any layer changes, to first order, from one forward and one backward pass.

Let y be what a layer puts out under the architecture the model is switched to, y' what it would put out for the same
input if it alone kept something else, and g the gradient of a loss with respect to y. Then the loss changes by
<g, y' - y>, up to terms of second order in y' - y: the Taylor expansion that importances of weights are made of
(Molchanov et al., arXiv 1611.06440), but around an architecture instead of the dense model, and in the outputs of whole
layers, so that what compensation makes of every width is in it. One gradient serves every step of every layer.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunecast.architecture import Architecture, Layer
from prunecast.models.elastic import ElasticModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Slopes = dict[tuple[int, Layer], float]
"""By layer and by what it would keep instead: the change of the loss, in its unit."""


def slopes(
    elastic: ElasticModel,
    losses: "Callable[[PreTrainedModel], Iterable[Tensor]]",
    steps: Collection[tuple[int, Layer]],
) -> Slopes:
    """First-order changes of a loss for every step, each taken by itself.

    Costs a forward and a backward pass of the layers from the first that has steps on, and a forward pass of a layer
    for each of its steps.

    Args:
        elastic: the elastic model, switched to the architecture around which steps are taken; it is again afterwards.
        losses: scalars for the model, one a batch, whose sum is the loss.
        steps: a layer, and what it might keep instead of what it keeps.
    """
    changes: Slopes = dict.fromkeys(steps, 0.0)
    if not changes:
        return changes
    layers = {layer for layer, _ in changes}
    with torch.inference_mode(mode=False), torch.enable_grad(), _watched(elastic, layers) as calls:
        for loss in losses(elastic.model):
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad(), _returning(elastic) as centre:
                for layer, kept in changes:
                    elastic.apply(_with(centre, layer, kept))
                    changes[layer, kept] += calls[layer].change(elastic.layers[layer].module)
    return changes


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
    """A call of a layer: what went in, and what came out, which keeps its gradient."""

    hidden: Tensor
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    output: Tensor

    def change(self, layer: nn.Module) -> float:
        """<g, y' - y> for the layer as it is now."""
        if self.output.grad is None:
            return 0.0
        changed = _hidden(layer(self.hidden, *self.arguments, **self.options))
        return float(((changed.float() - self.output.float()) * self.output.grad.float()).sum())


@contextmanager
def _watched(elastic: ElasticModel, layers: Iterable[int]) -> Iterator[dict[int, _Call]]:
    """The latest call of each layer that was made with gradients. Below the first of them no gradient is taken."""
    calls: dict[int, _Call] = {}
    modules = {layer: elastic.layers[layer].module for layer in layers}
    hooks = [modules[min(modules)].register_forward_pre_hook(_root)]
    for layer, module in modules.items():
        hooks.append(module.register_forward_hook(partial(_note, calls, layer), with_kwargs=True))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _root(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let the graph of gradients begin at the hidden states that go in."""
    hidden, *rest = arguments
    return (hidden.detach().requires_grad_(torch.is_grad_enabled()), *rest)


def _note(
    calls: dict[int, _Call],
    layer: int,
    _: nn.Module,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    output: Any,
) -> None:
    if torch.is_grad_enabled():
        hidden, *rest = arguments
        _hidden(output).retain_grad()
        calls[layer] = _Call(hidden.detach(), tuple(rest), options, _hidden(output))


def _hidden(output: Any) -> Tensor:
    """Hidden states among what a layer returns."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
