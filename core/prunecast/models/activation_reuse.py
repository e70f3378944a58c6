"""Reuse of activations: the first layers that two architectures have in common are computed once.

While reuse is active, the output of every layer is stored for each batch of tokens. When the same batch is evaluated
under another architecture, the layers before the first difference return their stored outputs. All architectures of a
space share its protected first layers. Proposals of a search, which change a few layers at a time, share more, most of
all if they are measured in the order of their layers.
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
"""Default limit in bytes: float32 outputs of all 30 layers of a model of hidden size 576, for 15,000 tokens.

Outputs beyond it are computed every time. None is dropped to make room: batches are evaluated in turn, so the least
recently used output would always be the one needed next.
"""


class _Stored(NamedTuple):
    """Output of a layer, and the sizes of all layers up to it, including its own."""

    layers: tuple[Layer, ...]
    output: Any


class ActivationReuse:
    """Stored activations of one elastic model, reused from one architecture to the next.

    Args:
        elastic: the elastic model. Its weights and its compensation must not change while activations are stored.
        memory: limit of the stored activations in bytes.

    Attributes:
        computed, reused: number of layers computed, and of layers whose output was reused, since construction.
    """

    def __init__(self, elastic: ElasticModel, memory: int = MEMORY) -> None:
        self._elastic, self._memory = elastic, memory
        self._stored: dict[tuple[bytes, int], _Stored] = {}
        self._bytes = 0
        self._batch: bytes | None = None
        self._resume = 0
        self.computed = self.reused = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """Reuse activations inside the context.

        Applies to calls of the model with token ids as the only input, no KV cache and no gradients; others run as
        usual.
        """
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
                del layer.forward  # uncovers the method of the class

    def forget(self) -> None:
        """Drop all stored activations and free their memory."""
        self._stored.clear()
        self._bytes = 0

    def shrink(self) -> bool:
        """Drop all stored activations and lower the limit to half their size; True if there were any."""
        stored, self._memory = self._bytes, self._bytes // 2
        self.forget()
        return stored > 0

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
        """Number of first layers to skip for a batch: all up to the last one whose stored output is still valid."""
        layers = self._elastic.architecture.layers
        for index in reversed(range(len(layers))):
            stored = self._stored.get((batch, index))
            if stored is not None and stored.layers == layers[: index + 1]:
                return index + 1
        return 0

    def _wrapped(self, index: int, layer: nn.Module) -> Callable[..., Any]:
        run = layer.forward

        def forward(hidden_states: Tensor, *arguments: Any, **options: Any) -> Any:
            if self._batch is None:
                return run(hidden_states, *arguments, **options)
            if index < self._resume:
                self.reused += 1
                # Only the output of the last reused layer is read, and that one is stored.
                return self._stored[self._batch, self._resume - 1].output
            self.computed += 1
            output = run(hidden_states, *arguments, **options)
            self._store(self._batch, index, output)
            return output

        return forward

    def _store(self, batch: bytes, index: int, output: Any) -> None:
        size = sum(t.nbytes for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, Tensor))
        known = (batch, index) in self._stored
        if known or self._bytes + size <= self._memory:
            self._bytes += 0 if known else size
            self._stored[batch, index] = _Stored(self._elastic.architecture.layers[: index + 1], output)
