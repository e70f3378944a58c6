"""A model whose decoder layers stay memory-mapped in their stored dtype, and are loaded to the device one at a time.

Everything else of the model (embeddings, final norm, head) is on the device. A forward pass of the stock class runs as
usual; each decoder layer is replaced by a module that loads the layer, runs it and frees it.

Notation:
    B, T, D  rows of a batch, tokens of a row, hidden size
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from prunecast.models.elastic import convert_parameters, stock_entries
from prunecast.models.families.family import Family
from prunecast.models.families.layer_parts import list_of_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Run = Callable[["LayerCall"], Tensor]


@dataclass(frozen=True)
class LayerCall:
    """A call of a decoder layer.

    Attributes:
        index: the layer.
        hidden: hidden states passed to it, (B, T, D).
        arguments, options: further arguments, such as masks and positions.
    """

    index: int
    hidden: Tensor
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def of(self, layer: nn.Module) -> Tensor:
        """Hidden states that a layer returns for the call, (B, T, D)."""
        output = layer(self.hidden, *self.arguments, **self.options)
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        return hidden

    def with_hidden(self, hidden: Tensor) -> "LayerCall":
        """The same call with other hidden states, which are moved to the device of the call."""
        return replace(self, hidden=hidden.to(self.hidden.device))


class BaseCall(NamedTuple):
    """Arguments of a call of the base model."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]


class StreamedModel:
    """A stock model with layers that are not in memory.

    Args:
        stored: the model with memory-mapped weights, as stored; changed in place.
        family: description of its family.
        dtype, device: number format and place of everything that is loaded.

    Attributes:
        model: the stock model, to be called as usual.
        depth: number of its layers.
        loads: number of times that a layer has been loaded.
        current: returns a context that loads a layer by its index; by default the layer of the stock model.
        run: returns the hidden states that the layer of a call returns.

    Raises:
        ModelError: its layers are not at the place that the description names.
    """

    def __init__(
        self, stored: "PreTrainedModel", family: Family, dtype: torch.dtype, device: "torch.device | str"
    ) -> None:
        self.model, self.family, self.device = stored, family, device
        places = list_of_layers(stored, family)
        self._stored = list(places)
        self.depth, self.loads = len(self._stored), 0
        for index in range(self.depth):
            places[index] = _Place(self, index)
        stored.requires_grad_(False)
        self.convert(dtype)
        self.current: Callable[[int], AbstractContextManager[nn.Module]] = self._stock_layer
        self.run: Run = self._stream
        self.returns_tuple = False
        self._find_out_what_layers_return()

    def convert(self, dtype: torch.dtype) -> None:
        """Load layers in another dtype from now on, and convert everything that is on the device already."""
        self.dtype = dtype
        convert_parameters(self.model, dtype)
        self.model.to(self.device)  # type: ignore[arg-type]  # a decorator of transformers hides the signature

    def load_layer(self, index: int) -> nn.Module:
        """A copy of a layer, on the device and in the dtype, with the weights of the stock model."""
        stored = self._stored[index]
        kept: dict[int, Any] = {
            id(weight): nn.Parameter(weight.data.to(self.device, self.dtype)) for weight in stored.parameters()
        }
        kept |= {id(module.config): module.config for module in stored.modules() if hasattr(module, "config")}
        self.loads += 1
        return copy.deepcopy(stored, kept).to(self.device)

    def _stock_layer(self, index: int) -> AbstractContextManager[nn.Module]:
        return nullcontext(self.load_layer(index))

    @contextmanager
    def running(self, run: "Run") -> Iterator[None]:
        """Run layers in another way inside the context."""
        before, self.run = self.run, run
        try:
            yield
        finally:
            self.run = before

    def passing(self) -> AbstractContextManager[None]:
        """A context in which layers return the hidden states that they get."""
        return self.running(lambda call: call.hidden)

    def begin(self, call: BaseCall) -> list[LayerCall]:
        """The calls that a call of the base model makes of its layers, all with the hidden states of the first."""
        calls: list[LayerCall] = []

        def note(call: LayerCall) -> Tensor:
            calls.append(call)
            return call.hidden

        base = self.model.base_model
        with self.running(note):
            type(base).forward(base, *call.arguments, **call.options)  # the method of the class, not a replacement
        return calls

    def ending(self, hidden: Tensor) -> AbstractContextManager[None]:
        """A context in which layers are skipped, and the last one returns ``hidden``, (B, T, D)."""
        last = self.depth - 1
        return self.running(lambda call: hidden if call.index == last else call.hidden)

    def _stream(self, call: LayerCall) -> Tensor:
        """Load a layer, run it and free it."""
        with self.current(call.index) as layer:
            return call.of(layer)

    def _find_out_what_layers_return(self) -> None:
        """Run the first layer on a token: layers of some classes return a tuple that begins with the hidden states."""
        first = self.load_layer(0)

        def look(call: LayerCall) -> Tensor:
            if call.index == 0:
                output = first(call.hidden, *call.arguments, **call.options)
                self.returns_tuple = isinstance(output, tuple)
            return call.hidden

        with torch.inference_mode(), self.running(look):
            self.model.base_model(torch.zeros(1, 1, dtype=torch.int64, device=self.device), use_cache=False)


class _Place(nn.Module):
    """Module in place of a decoder layer."""

    def __init__(self, streamed: StreamedModel, index: int) -> None:
        super().__init__()
        self._streamed, self._index = streamed, index

    def forward(self, hidden_states: Tensor, *arguments: Any, **options: Any) -> Any:
        """The output of the layer."""
        hidden = self._streamed.run(LayerCall(self._index, hidden_states, arguments, options))
        return (hidden,) if self._streamed.returns_tuple else hidden

    def stock_entries(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        """Names and values of the weights of the layer."""
        with self._streamed.current(self._index) as layer:
            yield from stock_entries(layer, prefix)
