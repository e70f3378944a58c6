"""A model on this machine as the first spec needs to know it: sizes, tokenizer, device, memory and speed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunecast.architecture.shape import ModelShape
from prunecast.errors import DataError, ModelError
from prunecast.export.targets import targets_for
from prunecast.measure.device import choose_device, choose_dtype, macs_per_second
from prunecast.models.described import described
from prunecast.models.families.sizes import shape_of
from prunecast.models.loading import free_memory
from prunecast.models.source import ModelSource, resolve_source
from prunecast.plugins.bos import bos_tokens
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost
from prunecast.text import amounts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

FLOAT32 = 4
"""Bytes of a number while units are ranked."""

_LONGEST_WINDOW = 512


@dataclass(frozen=True)
class Machine:
    """What a run has to work with.

    Attributes:
        device: device that ``auto`` chooses.
        dtype: number format that ``auto`` chooses on it.
        memory: free bytes for the model.
        speed: multiply-accumulates a second in ``dtype``.
        ranking_speed: the same in float32, in which units are ranked.
    """

    device: "torch.device"
    dtype: "torch.dtype"
    memory: int
    speed: float
    ranking_speed: float

    @classmethod
    def here(cls, width: int) -> "Machine":
        """This machine; its speed is that of matrix products of a model with this hidden size, timed now."""
        import torch

        device = choose_device("auto")
        dtype = choose_dtype("auto", device)
        speed = macs_per_second(width, dtype, device)
        ranking = speed if dtype == torch.float32 else macs_per_second(width, torch.float32, device)
        return cls(device, dtype, free_memory(device), speed, ranking)


@dataclass(frozen=True)
class Look:
    """A model as far as config and tokenizer tell; no weight has been read.

    Attributes:
        source: where its files are.
        config: its config.
        shape: its sizes.
        tokenizer: its tokenizer.
        bos: tokens in front of every text, none for most families.
        targets: exporters that can write pruned models of it.
    """

    source: ModelSource
    config: "PreTrainedConfig"
    shape: ModelShape
    tokenizer: "PreTrainedTokenizerBase"
    bos: int
    targets: tuple[str, ...]

    @property
    def window(self) -> int:
        """Length of a window of text in tokens: a power of two that fits the model's context, at most 512."""
        longest = min(self.shape.context - self.bos, _LONGEST_WINDOW)
        return int(2 ** (longest.bit_length() - 1))


def look_at(model: str, host: PluginHost) -> Look:
    """Look at a model: an alias, a ``.gguf`` file, a folder or a Hub id, as in a spec.

    Config and tokenizer of a Hub model are downloaded, its weights only where nothing else tells whether embeddings are
    tied. A ``.gguf`` file is converted once.

    Args:
        model: the model.
        host: where the descriptions of families come from.

    Raises:
        ModelError: there is no such model, it is not a causal language model of a described family, it has no
            tokenizer, or stored weights do not fit its config.
    """
    source = resolve_source(model)
    config, family = described(source, families_of(host))
    shape = shape_of(config, family)
    if source.kind != "hub":
        source.check()
    tokenizer = source.tokenizer()
    try:
        bos = len(bos_tokens("auto", tokenizer, shape))
    except DataError as error:
        raise ModelError(f"model {model}: {error}") from error
    if shape.context - bos < 2:
        raise ModelError(f"model {model}: its context of {shape.context} tokens is too short to predict a token")
    return Look(source, config, shape, tokenizer, bos, targets_for(host, config, family, source))


def ranking_bytes(shape: ModelShape) -> int:
    """Bytes that ranking by ``obs`` and compensating by least squares need: weights and moments, all in float32.

    Moments of the inputs of the output projections (K x K) are kept for both, those of the gradients at their outputs
    (D x D) for the ranking.
    """
    inputs = sum(
        (groups * per_group * shape.head_dim) ** 2 + width**2 for groups, per_group, width in shape.dense.layers
    )
    outputs = 2 * len(shape.dense.layers) * shape.hidden_size**2
    return FLOAT32 * (_parameters(shape) + 2 * inputs + outputs)


def gradient_bytes(shape: ModelShape) -> int:
    """Bytes that ranking by ``taylor`` needs: weights and gradients in float32."""
    return 2 * FLOAT32 * _parameters(shape)


def check_memory(shape: ModelShape, memory: int, name: str) -> None:
    """Raise ModelError unless so many free bytes suffice to rank the units of a model by ``taylor``."""
    if (needed := gradient_bytes(shape)) > memory:
        need, has = amounts(needed, memory)
        raise ModelError(
            f"model {name}: ranking its units takes about {need} in float32, {has} are free: choose a smaller model, "
            "or a machine with more memory"
        )


def _parameters(shape: ModelShape) -> int:
    return int(shape.count([shape.dense])[0])
