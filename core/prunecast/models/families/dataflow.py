"""Where the modules of decoder layers take their inputs from, as one forward pass of a small model shows.

Notation:
    B, T  rows of the batch, tokens of a row
    D     width of the residual stream
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunecast.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STREAM = "the residual stream"
"""Source of what is computed from the input of a layer."""


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        positional, named: its arguments.
        output: what it returned. Later modules may have changed it in place.
        steps: the steps of the gradient's graph that made its arguments.
        value: a copy of the tensor that it returned, or of the first one; None if that is no tensor.
        made_by: the step that made this tensor.
    """

    positional: tuple[Any, ...]
    named: dict[str, Any]
    output: Any
    steps: tuple[Any, ...]
    value: Tensor | None
    made_by: Any

    @property
    def inputs(self) -> list[Tensor]:
        """Arguments through which a gradient flows."""
        return [each for each in (*self.positional, *self.named.values()) if _has_gradient(each)]


@dataclass
class LayerFlow:
    """One decoder layer in one forward pass.

    A *node* is a module with parameters of its own, or a norm. What it returns is a source of what others read.

    Attributes:
        name: name of the layer in the model.
        layer: the layer.
        calls: calls of each of its modules, by name in the layer; ``""`` is the layer itself.
        sources: for each node that was called, what its input is computed from: names of nodes, :data:`STREAM`, and
            what is neither (parameters outside of nodes, nodes of other layers), by its name in the model.
    """

    name: str
    layer: nn.Module
    calls: dict[str, list[Call]] = field(default_factory=dict)
    sources: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def nodes(self) -> dict[str, nn.Module]:
        """The nodes of the layer, called or not, by name."""
        return {name: module for name, module in self.layer.named_modules() if _is_node(module)}

    @property
    def result(self) -> Tensor:
        """The residual stream that the layer returned, shape (B, T, D)."""
        stream: Tensor = first_tensor(self.calls[""][0].output)
        return stream

    def input(self, name: str) -> Tensor:
        """The input of a node that was called once."""
        return self.calls[name][0].inputs[0]

    def output(self, name: str) -> Tensor:
        """The output of a node that was called once."""
        output: Tensor = first_tensor(self.calls[name][0].output)
        return output


class Flow:
    """One forward pass of a model, layer by layer. Gradients do not flow from layer to layer along the stream.

    Args:
        model: a small model, with weights.
        layers: path of the list of its layers.
        ids: tokens, int64 of shape (B, T).
        bypassed: nodes of the layers that return what they get.

    Attributes:
        layers: the layers, first one first.

    Raises:
        ModelError: a layer is not called once with a residual stream of shape (B, T, D).
    """

    def __init__(self, model: "PreTrainedModel", layers: str, ids: Tensor, bypassed: Collection[str] = ()) -> None:
        self._parameters = {id(weight): name for name, weight in model.named_parameters()}
        self._streams: dict[int, tuple[Tensor, str]] = {}
        self._makers: dict[Any, str] = {}
        self._shape = (*ids.shape, model.config.hidden_size)
        stack = model.get_submodule(layers).children()
        self.layers = [LayerFlow(f"{layers}.{index}", layer) for index, layer in enumerate(stack)]
        with ExitStack() as undo, torch.enable_grad():
            for flow in self.layers:
                for hook in self._watch(flow):
                    undo.callback(hook.remove)
                for name in bypassed:
                    undo.enter_context(_bypassed(flow.layer, name))
            model(ids, use_cache=False)
        for flow in self.layers:
            if len(flow.calls.get("", ())) != 1:
                raise ModelError(f"{flow.name} runs {len(flow.calls.get('', ()))} times in a forward pass, not once")
            for name in flow.nodes:
                reads = [self.sources(flow, each) for call in flow.calls.get(name, ()) for each in call.steps]
                if reads:
                    flow.sources[name] = frozenset().union(*reads)

    def sources(self, flow: LayerFlow, made_by: Any) -> frozenset[str]:
        """What a tensor of a layer is computed from, by the step of the graph that made it; as in LayerFlow."""
        return frozenset(name.removeprefix(f"{flow.name}.") for name in self._walk(flow, made_by))

    def _walk(self, flow: LayerFlow, start: Any) -> Iterator[str]:
        """Names in the model of the nearest nodes and parameters, back along the graph of the gradients."""
        waiting, seen = [start], set()
        while waiting:
            step = waiting.pop()
            if step is None or step in seen:
                continue
            seen.add(step)
            if step in self._makers:
                yield self._makers[step]
            elif hasattr(step, "variable"):
                yield self._leaf(flow, step.variable)
            else:
                waiting += [following for following, _ in step.next_functions]

    def _leaf(self, flow: LayerFlow, leaf: Tensor) -> str:
        if id(leaf) in self._streams:
            owner = self._streams[id(leaf)][1]
            return STREAM if owner == flow.name else f"the input of {owner}"
        return self._parameters.get(id(leaf), "a parameter without a name")

    def _watch(self, flow: LayerFlow) -> Iterator[Any]:
        yield flow.layer.register_forward_pre_hook(
            lambda _, positional, named: self._cut(flow, positional, named), with_kwargs=True
        )
        for name, module in flow.layer.named_modules():
            yield module.register_forward_hook(self._recorder(flow, name), with_kwargs=True)

    def _cut(self, flow: LayerFlow, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Forward pre-hook of a layer: its input becomes a leaf of the graph."""
        stream = positional[0] if positional else named.get("hidden_states")
        if not isinstance(stream, Tensor) or tuple(stream.shape) != self._shape:
            raise ModelError(f"the first input of {flow.name} is not one residual stream of width {self._shape[-1]}")
        leaf = stream.detach().requires_grad_()
        self._streams[id(leaf)] = (leaf, flow.name)  # kept, so that no other tensor gets its id
        cut = leaf.clone()  # may be changed in place
        return ((cut, *positional[1:]), named) if positional else (positional, named | {"hidden_states": cut})

    def _recorder(self, flow: LayerFlow, name: str) -> Any:
        """A forward hook that records the calls of a module."""

        def record(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            made = first_tensor(output)
            value = made.detach().clone() if isinstance(made, Tensor) else None
            made_by = getattr(made, "grad_fn", None)
            steps = tuple(each.grad_fn for each in (*positional, *named.values()) if _has_gradient(each))
            flow.calls.setdefault(name, []).append(Call(positional, named, output, steps, value, made_by))
            if made_by is not None and _is_node(module):
                self._makers[made_by] = f"{flow.name}.{name}"

        return record


@contextmanager
def _bypassed(layer: nn.Module, name: str) -> Iterator[None]:
    """Inside of the context, a module of a layer, if it is there, returns what it gets."""
    module = dict(layer.named_modules()).get(name)
    if module is None:
        yield
        return
    module.forward = lambda value, *_, **__: value.clone()
    try:
        yield
    finally:
        del module.forward


def first_tensor(output: Any) -> Any:
    """What a module returned, or the first part of it."""
    return output[0] if isinstance(output, tuple | list) else output


def _has_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _is_node(module: nn.Module) -> bool:
    norm = "norm" in type(module).__name__.lower() and not any(module.children())
    return norm or next(module.parameters(recurse=False), None) is not None
