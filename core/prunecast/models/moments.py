"""Moments of the inputs of the output projections (attention output, MLP down) in the dense model, on calibration text.

Notation:
    B, T  rows and tokens of a batch
    K     inputs of an output projection
    x     input of an output projection at one token, shape (K,)

    second  mean of x x' over tokens, shape (K, K)
    mean    mean of x over tokens, shape (K,)

Heads and channels are in the order of the stock model, so one file serves every pruner.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunecast.architecture.choices import Component
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ModelError, one_line
from prunecast.models.families.family import Family
from prunecast.models.families.layer_parts import layers_of
from prunecast.owned.files import written_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Moments:
    """Moments of the inputs of every output projection, in a safetensors file.

    Entries ``LAYER.COMPONENT.second`` (K, K) and ``LAYER.COMPONENT.mean`` (K,), float32, both means over tokens.
    Reading an entry raises ModelError if the file is missing or damaged.

    Attributes:
        path: the safetensors file.
    """

    path: Path

    def second(self, layer: int, component: Component) -> Tensor:
        """Mean of x x' over tokens, float32 of shape (K, K)."""
        return self._read(f"{layer}.{component}.second")

    def mean(self, layer: int, component: Component) -> Tensor:
        """Mean of x over tokens, float32 of shape (K,)."""
        return self._read(f"{layer}.{component}.mean")

    def _read(self, name: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                tensor: Tensor = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{self.path}: moments for compensation cannot be read ({one_line(error)}); delete the file "
                "to have them computed from the calibration text again"
            ) from error
        return tensor


class MomentSums:
    """Sums of x and x x' over the inputs x of every output projection, collected by hooks during forward passes.

    Args:
        model: the dense stock model, or one that has only some of its layers.
        family: description of its family.
        first: number of the first of its layers in the whole model.

    Attributes:
        tokens: number of tokens summed over so far.
    """

    def __init__(self, model: "PreTrainedModel", family: Family, first: int = 0) -> None:
        self._projections: dict[str, nn.Module] = {}
        for index, parts in enumerate(layers_of(model, family), first):
            if parts.sizes.kv_groups:
                self._projections[f"{index}.attention"] = parts.output.module
            if parts.sizes.mlp_width:
                self._projections[f"{index}.mlp"] = parts.down.module
        self._counted = next(iter(self._projections.values()), None)
        self._sums: dict[str, Tensor] = {}
        self.tokens = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Add the tokens of every forward pass inside the context to the sums."""
        hooks = [module.register_forward_pre_hook(self._adding(name)) for name, module in self._projections.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def save(self, path: Path) -> Moments:
        """Write the means over all tokens to ``path``, atomically."""
        from safetensors.torch import save_file

        with written_whole(path) as unfinished:
            save_file(dict(self.means()), unfinished)
        return Moments(path)

    def means(self) -> Iterator[tuple[str, Tensor]]:
        """Names of the entries of :class:`Moments`, and the means over all tokens, on the CPU."""
        return ((name, (total / self.tokens).cpu()) for name, total in self._sums.items())

    def _adding(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        """Forward pre-hook of a projection."""

        def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach().flatten(0, -2).float()
            self.tokens += len(x) if module is self._counted else 0
            for part, value in ((f"{name}.second", x.T @ x), (f"{name}.mean", x.sum(0))):
                self._sums[part] = self._sums[part].add_(value) if part in self._sums else value

        return add


class MomentsWriter:
    """Writes a file of :class:`Moments` one entry at a time, in any order.

    Args:
        path: the file.
        shape: sizes of the dense model.
    """

    def __init__(self, path: Path, shape: ModelShape) -> None:
        self._path, self._places = path, {}
        header: dict[str, Any] = {}
        end = 0
        for name, sizes in _entries_of(shape):
            begin, end = end, end + math.prod(sizes) * torch.float32.itemsize
            header[name] = {"dtype": "F32", "shape": sizes, "data_offsets": [begin, end]}
            self._places[name] = begin
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self._begin = 8 + len(text)
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        os.truncate(path, self._begin + end)

    def write(self, entries: Iterable[tuple[str, Tensor]]) -> None:
        """Write entries: names and float32 tensors on the CPU."""
        with self._path.open("r+b") as file:
            for name, tensor in entries:
                file.seek(self._begin + self._places[name])
                file.write(tensor.contiguous().numpy().data)


def _entries_of(shape: ModelShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all entries."""
    for index, layer in enumerate(shape.dense.layers):
        for component, inputs in (("attention", layer.query_heads * shape.head_dim), ("mlp", layer.mlp_width)):
            if inputs:
                yield f"{index}.{component}.second", (inputs, inputs)
                yield f"{index}.{component}.mean", (inputs,)


def gather_moments(
    model: "PreTrainedModel", family: Family, batches: Iterable[Tensor], path: Path, advance: Callable[[int], None]
) -> Moments:
    """Run the dense stock model over calibration text and write the moments to ``path``.

    Args:
        model: the dense stock model.
        family: description of its family.
        batches: int64 token ids of shape (B, T), on the model's device.
        path: the safetensors file to write.
        advance: called with the number of tokens after each batch.
    """
    sums = MomentSums(model, family)
    with torch.inference_mode(), sums.listening():
        for batch in batches:
            model.base_model(batch, use_cache=False)
            advance(batch.numel())
    return sums.save(path)
