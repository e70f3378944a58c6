"""Reuse of activations: layers that two architectures share at the bottom are computed once.

While it is active, the output of every layer is kept for each batch of tokens that comes by. When the same batch comes
again under another architecture, layers that are the same as before, from the first one up to the first difference,
give what they gave then. Protected first layers are shared by all architectures of a space; proposals of a search,
which move a few layers at a time, share more, the more so when measured in the order of their layers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunecast.architecture.architecture import Layer
from prunecast.models.elastic import ElasticModel

MEMORY = 2**30
"""Bytes of activations kept: all layers of 15,000 tokens in float32 of a model of 30 layers with D = 576. What does not
fit is computed each time; nothing is dropped to make room, because batches come in turn and the one needed next would
always be the one just dropped."""


class _Kept(NamedTuple):
    below: tuple[Layer, ...]
    output: Any


class ActivationReuse:
    """Activations of one elastic model, kept from one architecture to the next.

    Args:
        elastic: the elastic model. Its weights and its compensation must not change while activations are kept.
        memory: bytes that may be kept.

    Attributes:
        computed, reused: layers run, and layers whose activations were there, since construction.
    """

    def __init__(self, elastic: ElasticModel, memory: int = MEMORY) -> None:
        self._elastic, self._memory = elastic, memory
        self._kept: dict[tuple[bytes, int], _Kept] = {}
        self._bytes = 0
        self._batch: bytes | None = None
        self._resume = 0
        self.computed = self.reused = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """Reuse activations inside. Only calls with plain token ids and no KV cache take part; others run as ever."""
        base = self._elastic.model.base_model
        hook = base.register_forward_pre_hook(self._begin, with_kwargs=True)
        layers = [layer.module for layer in self._elastic.layers]
        for index, layer in enumerate(layers):
            layer.forward = self._wrapped(index, layer)
        try:
            yield
        finally:
            hook.remove()
            for layer in layers:
                del layer.forward  # the method of the class is back

    def forget(self) -> None:
        """Drop all that is kept, and so give its memory back."""
        self._kept.clear()
        self._bytes = 0

    def shrink(self) -> bool:
        """Drop all that is kept, and keep at most half of that from now on; whether there was anything."""
        kept, self._memory = self._bytes, self._bytes // 2
        self.forget()
        return kept > 0

    def _begin(self, _: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        plain = len(arguments) == 1 and isinstance(arguments[0], Tensor) and options == {"use_cache": False}
        if not plain or torch.is_grad_enabled():
            self._batch = None
            return
        ids = arguments[0]
        content = ids.cpu().numpy().tobytes() + repr(tuple(ids.shape)).encode()
        self._batch = blake2b(content, digest_size=16).digest()
        self._resume = self._shared_layers(self._batch)

    def _shared_layers(self, batch: bytes) -> int:
        """Number of layers, from the first, whose output for the batch is kept and still right."""
        layers = self._elastic.architecture.layers
        for index in reversed(range(len(layers))):
            kept = self._kept.get((batch, index))
            if kept is not None and kept.below == layers[: index + 1]:
                return index + 1
        return 0

    def _wrapped(self, index: int, layer: nn.Module) -> Callable[..., Any]:
        run = layer.forward

        def forward(hidden_states: Tensor, *arguments: Any, **options: Any) -> Any:
            if self._batch is None:
                return run(hidden_states, *arguments, **options)
            if index < self._resume:
                self.reused += 1
                kept = self._kept.get((self._batch, index))
                # An output that is not kept is not needed either: the layer above does not look at it.
                return hidden_states if kept is None else kept.output
            self.computed += 1
            output = run(hidden_states, *arguments, **options)
            self._keep(self._batch, index, output)
            return output

        return forward

    def _keep(self, batch: bytes, index: int, output: Any) -> None:
        size = sum(t.nbytes for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, Tensor))
        known = (batch, index) in self._kept
        if known or self._bytes + size <= self._memory:
            self._bytes += 0 if known else size
            self._kept[batch, index] = _Kept(self._elastic.architecture.layers[: index + 1], output)
