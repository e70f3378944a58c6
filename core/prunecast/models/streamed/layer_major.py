"""Evaluation layer by layer: a batch of architectures goes through a layer before any of them goes on to the next.

An evaluator calls the base model as usual. The first time, its calls run one after the other and are recorded. For
further architectures the same calls are computed together, for several architectures at once: each layer is loaded
once for all of them, and architectures with the same first layers share their hidden states. The evaluator then finds
the result of each call ready. A call that was not recorded runs on its own.

Notation:
    B, T, D  rows of a batch, tokens of a row, hidden size
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.models.streamed.elastic import StreamedElastic
from prunecast.models.streamed.model import BaseCall, LayerCall

MEMORY = 2**30
"""Default limit in bytes of the hidden states that are kept between two layers, and of the recorded inputs."""

_INPUTS = ("input_ids", "attention_mask", "position_ids")
"""Arguments of the base model on which its result depends; a call with others is not recorded."""


class Wanted(NamedTuple):
    """An evaluation that will follow.

    Attributes:
        architecture: the evaluated architecture.
        evaluator: key of the evaluator.
        compensated: False if compensation is taken away for it.
    """

    architecture: Architecture
    evaluator: str
    compensated: bool


class LayerMajor:
    """Results of the base model of a streamed elastic model, computed layer by layer for several architectures.

    Args:
        elastic: the elastic model.
        memory: limit in bytes.
    """

    def __init__(self, elastic: StreamedElastic, memory: int = MEMORY) -> None:
        self._elastic, self._streamed, self._memory = elastic, elastic.streamed, memory
        self._calls: dict[str, dict[bytes, BaseCall]] = {}
        self._recorded_bytes = 0
        self._wanted: Sequence[Wanted] = ()
        self._ready: dict[tuple[Architecture, bool, bytes], Tensor] = {}
        self._evaluator = ""

    @contextmanager
    def active(self, evaluator: str, wanted: Sequence[Wanted]) -> Iterator[None]:
        """Use results that are ready, or can be computed together with others.

        Args:
            evaluator: key of the evaluator that runs in the context.
            wanted: evaluations that will follow, in their order.
        """
        self._evaluator, self._wanted = evaluator, wanted
        base = self._streamed.model.base_model
        run = base.forward

        def forward(*arguments: Any, **options: Any) -> Any:
            hidden = self._final_hidden(BaseCall(arguments, options))
            if hidden is None:
                return run(*arguments, **options)
            with self._streamed.ending(hidden):
                return run(*arguments, **options)

        base.forward = forward
        try:
            yield
        finally:
            del base.forward  # uncovers the method of the class

    def forget(self) -> None:
        """Discard all results."""
        self._ready.clear()

    def shrink(self) -> bool:
        """Discard all results and halve the memory limit; True if there were results to discard."""
        had_any = bool(self._ready)
        self._memory //= 2
        self.forget()
        return had_any

    def _final_hidden(self, call: BaseCall) -> Tensor | None:
        """Hidden states, (B, T, D), that the last layer returns for a call; None if the call has to run by itself."""
        key = _key_of(call)
        if key is None or torch.is_grad_enabled():
            return None
        if key not in self._calls.get(self._evaluator, {}):
            self._record(key, call)
            return None
        now = Wanted(self._elastic.architecture, self._evaluator, self._elastic.compensation is not None)
        if (now.architecture, now.compensated, key) not in self._ready:
            self._compute(now, key)
        return self._ready[now.architecture, now.compensated, key].to(self._streamed.device)

    def _record(self, key: bytes, call: BaseCall) -> None:
        size = sum(tensor.nbytes for tensor in _tensors((*call.arguments, call.options)))
        if self._recorded_bytes + size <= self._memory:
            self._recorded_bytes += size
            self._calls.setdefault(self._evaluator, {})[key] = call

    def _compute(self, now: Wanted, key: bytes) -> None:
        """Compute what is wanted now, and as much of what follows as memory holds."""
        self._ready.clear()
        alike = [wanted for wanted in self._wanted if wanted.compensated == now.compensated]
        position = alike.index(now) if now in alike else len(alike)
        following = list(dict.fromkeys(each.architecture for each in (now, *alike[position:])))
        evaluators = dict.fromkeys((now.evaluator, *(each.evaluator for each in alike[position:])))
        calls = {k: call for evaluator in evaluators for k, call in self._calls.get(evaluator, {}).items()}
        begun = self._begun({key: calls[key]} | calls)
        room = self._memory // sum(layers[0].hidden.nbytes for layers in begun.values())
        architectures = following[: max(1, room)]
        finished = self._through_all_layers(architectures, list(begun.values()))
        for architecture in architectures:
            for one, hidden in zip(begun, finished[architecture.layers], strict=True):
                self._ready[architecture, now.compensated, one] = hidden

    def _begun(self, calls: Mapping[bytes, BaseCall]) -> dict[bytes, list[LayerCall]]:
        """Calls of the layers for as many calls of the base model as memory holds, at least for the first one."""
        begun: dict[bytes, list[LayerCall]] = {}
        size = 0
        for key, call in calls.items():
            layers = self._streamed.begin(call)
            size += layers[0].hidden.nbytes
            if begun and size > self._memory:
                break
            begun[key] = layers
        return begun

    def _through_all_layers(
        self, architectures: Sequence[Architecture], begun: Sequence[list[LayerCall]]
    ) -> dict[tuple[Layer, ...], list[Tensor]]:
        """Hidden states after the last layer, on the CPU, one for each call, by the sizes of all layers."""
        states: dict[tuple[Layer, ...], list[Tensor]] = {(): [layers[0].hidden.cpu() for layers in begun]}
        for index in range(self._streamed.depth):
            prefixes = dict.fromkeys(architecture.layers[: index + 1] for architecture in architectures)
            with self._elastic.loaded_layer(index):
                for before in list(states):
                    inputs = states.pop(before)
                    for prefix in prefixes:
                        if prefix[:-1] == before:
                            states[prefix] = self._outputs([layers[index] for layers in begun], inputs, prefix[-1])
        return states

    def _outputs(self, calls: Sequence[LayerCall], inputs: Sequence[Tensor], kept: Layer) -> list[Tensor]:
        """Hidden states that the loaded layer returns for each call, on the CPU."""
        return [
            self._elastic.output(call.with_hidden(hidden), kept).cpu()
            for call, hidden in zip(calls, inputs, strict=True)
        ]


def _key_of(call: BaseCall) -> bytes | None:
    """Digest of the inputs of a call; None for one with other arguments, or with a KV cache."""
    named = dict(zip(_INPUTS, call.arguments, strict=False)) | call.options
    if named.pop("use_cache", None) is not False or len(call.arguments) > 1:
        return None
    given = {name: value for name, value in named.items() if value is not None}
    if not given.keys() <= set(_INPUTS):
        return None
    digest = blake2b(digest_size=16)
    for name in sorted(given):
        for tensor in _tensors(given[name]):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a value, or in a mapping or sequence of values; mappings sorted, so that equal inputs agree."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for name in sorted(value):
            yield from _tensors(value[name])
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
