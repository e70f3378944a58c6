"""Times of the components of a model, measured with the classes of its exports.

Whole models are timed, so that caches and memory are as busy as in the models whose speed is predicted, and the times
of the components are fitted to them. The weights are random numbers, as times do not depend on their values.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.choices import Choice
from prunecast.architecture.shape import ModelShape
from prunecast.architecture.speed import LayerTimes, SpeedTable, Times
from prunecast.models.described import config_of
from prunecast.models.families.catalogue import Families
from prunecast.models.families.family import EXPORTED, Family
from prunecast.models.families.quiet import quiet_transformers
from prunecast.models.families.sizes import model_without_weights
from prunecast.models.pruned.classes import SIZES, as_stock

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

ROUNDS = 5
"""Number of timed rounds; the models take turns in each, so that a slow spell of the machine slows all alike."""

STEPS = 8
"""Decoding steps after each prefill."""

MIXED = 12
"""Number of timed models whose sizes differ from layer to layer."""

WIDTHS = 9
"""Largest number of MLP widths that are timed; times between them are interpolated."""

_ALIGNED = 64
"""Each weight starts at a multiple of this many numbers, as allocators place them."""


@dataclass(frozen=True)
class Workload:
    """Workload of a timing.

    Attributes:
        batch: number of sequences.
        context: tokens of each prompt.
        dtype, device: number format and place of the models.
    """

    batch: int
    context: int
    dtype: "torch.dtype"
    device: "torch.device"


@dataclass(frozen=True)
class TimedModels:
    """Models of one family with random weights, all in the same memory.

    Attributes:
        config: config of the dense model.
        family: description of its family.
        families: all descriptions.
    """

    config: "PreTrainedConfig"
    family: Family
    families: Families

    def usual_times(
        self, architectures: Sequence[Architecture], work: Workload, rounds: int = ROUNDS
    ) -> dict[Architecture, Times]:
        """The median time of each architecture over several rounds, in which they take turns.

        Where other processes use the same processor, the time of the same matrix products changes by a tenth and more
        from one second to the next. The shortest of a few rounds depends on chance, so medians compare models better.

        Args:
            architectures: sizes of the models.
            work: the workload to time.
            rounds: number of rounds, after one that is not counted.
        """
        import torch

        with torch.inference_mode(), quiet_transformers():
            models = self.built(architectures, work)
            ids = torch.arange(work.batch * work.context, device=work.device).view(work.batch, -1)
            ids = ids % self.config.get_text_config().vocab_size
            timed: dict[Architecture, list[Times]] = {each: [] for each in models}
            for _ in range(rounds + 1):
                for each, model in models.items():
                    timed[each].append(_timed(model, ids))
        return {each: usual(times[1:]) for each, times in timed.items()}

    def built(self, architectures: Sequence[Architecture], work: Workload) -> "dict[Architecture, PreTrainedModel]":
        """Models of an export, in evaluation mode, one for each distinct architecture."""
        empty = {each: model_without_weights(self._config_of(each)) for each in dict.fromkeys(architectures)}
        arena = Arena(max(map(_room_of, empty.values())), work)
        return {each: arena.filled(model) for each, model in empty.items()}

    def _config_of(self, architecture: Architecture) -> "PreTrainedConfig":
        stock = as_stock(self.config)
        sizes = {str(index): self.family.entries_of(layer) for index, layer in enumerate(architecture.layers)}
        content = stock.to_dict() | {"model_type": f"{EXPORTED}{stock.model_type}", SIZES: sizes}
        return config_of(content, self.families, stock.model_type)


class Arena:
    """Memory with random numbers, which models of different sizes share as their weights.

    Args:
        count: numbers in it.
        work: dtype and device.
    """

    def __init__(self, count: int, work: Workload) -> None:
        import torch

        self._dtype, self._device = work.dtype, work.device
        generator = torch.Generator(work.device).manual_seed(0)
        numbers = torch.empty(count, dtype=work.dtype, device=work.device)
        self._numbers = numbers.normal_(0.0, 0.02, generator=generator)

    def filled(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """A copy of a model of the meta device, with weights that lie one behind the other in the memory."""
        kind: Any = type(model)
        weights, place = self._weights_of(model), {"": self._device}
        loaded = kind.from_pretrained(
            None, config=model.config, state_dict=weights, dtype=self._dtype, device_map=place
        )
        filled: PreTrainedModel = loaded.requires_grad_(False).eval()
        return filled

    def _weights_of(self, model: "PreTrainedModel") -> "dict[str, Tensor]":
        weights: dict[str, Tensor] = {}
        begin = 0
        for names in _tensors(model).values():
            tensor = model.get_parameter_or_buffer(names[0])
            weights |= dict.fromkeys(names, self._numbers[begin : begin + tensor.numel()].view(tensor.shape))
            begin += _room(tensor)
        return weights


def _room_of(model: "PreTrainedModel") -> int:
    """Count of numbers that a model takes in an arena."""
    return sum(_room(model.get_parameter_or_buffer(names[0])) for names in _tensors(model).values())


def _tensors(model: "PreTrainedModel") -> dict[int, list[str]]:
    """Names in the state of a model, by identity of the tensor: tied weights share an entry."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return names


def _room(tensor: "Tensor") -> int:
    return -(-tensor.numel() // _ALIGNED) * _ALIGNED


def usual(times: Sequence[Times]) -> Times:
    """The median of several times, each phase by itself, in whole nanoseconds."""
    return Times(*np.median(times, axis=0).round().astype(int).tolist())


def _timed(model: "PreTrainedModel", ids: "Tensor") -> Times:
    """Nanoseconds of one prefill, and of the fastest of several decoding steps after it."""
    from transformers import DynamicCache

    untyped: Any = model
    base, head = model.base_model, untyped.get_output_embeddings()
    cache = DynamicCache(config=model.config)

    def read(tokens: "Tensor") -> None:
        head(base(tokens, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:])

    prefill = _nanoseconds(lambda: read(ids), ids.device)
    return Times(prefill, min(_nanoseconds(lambda: read(ids[:, :1]), ids.device) for _ in range(STEPS)))


def _nanoseconds(work: Callable[[], None], device: "torch.device") -> int:
    """Nanoseconds of some work: CPU time of a single thread, as other processes disturb it less; else wall time."""
    import torch

    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time_ns if alone else time.perf_counter_ns
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    start = clock()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return clock() - start


@dataclass(frozen=True)
class TimedSizes:
    """Sizes of the components of one kind of layer that have a time of their own in the table.

    Attributes:
        attention: (KV groups, query heads per group); no attention at all is not listed, as it takes no time.
        widths: widths of the MLP, ascending from 0.
    """

    attention: tuple[tuple[int, int], ...]
    widths: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of fitted times: one for each attention and each width; width 0 takes none."""
        return len(self.attention) + len(self.widths) - 1

    def parts_of(self, layer: Layer) -> NDArray[np.float64]:
        """How often each size occurs in a layer: a width between two measured ones counts as a fraction of each."""
        here = (layer.kv_groups, layer.heads_per_group)
        attention = [float(here == size) for size in self.attention]
        hats = np.eye(len(self.widths))[1:]
        return np.array([*attention, *(float(np.interp(layer.mlp_width, self.widths, hat)) for hat in hats)])

    def variants_of(self, dense: Sequence[Layer]) -> list[list[tuple[int, int, int]]]:
        """Layers of one model for each size: every layer has that size, or lacks that component."""
        attention = [[(*size, layer.mlp_width) for layer in dense] for size in ((0, 0), *self.attention)]
        mlp = [[(layer.kv_groups, layer.heads_per_group, width) for layer in dense] for width in self.widths]
        return [*attention, *mlp]

    def drawn(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """A layer with one of the sizes of each component, or without it."""
        attention = ((0, 0), *self.attention)
        return (*attention[rng.integers(len(attention))], int(rng.choice(self.widths)))

    def times(self, fitted: Sequence[Times]) -> LayerTimes:
        """The table of times in the order of :meth:`parts_of`."""
        of_attention, of_mlp = fitted[: len(self.attention)], fitted[len(self.attention) :]
        attention = tuple((*size, times) for size, times in zip(self.attention, of_attention, strict=True))
        return LayerTimes(attention, tuple(zip(self.widths, (Times(0, 0), *of_mlp), strict=True)))


def sizes_to_time(shape: ModelShape, choices: Sequence[Choice]) -> list[TimedSizes]:
    """Sizes of each kind of layer that the choices of a space and the dense model have.

    If there are more than :data:`WIDTHS` widths, that many are taken, evenly spaced in their order.
    """
    return [_sizes_of_kind(shape, choices, kind) for kind in range(max(shape.kinds) + 1)]


def _sizes_of_kind(shape: ModelShape, choices: Sequence[Choice], kind: int) -> TimedSizes:
    of = {layer for layer, other in enumerate(shape.kinds) if other == kind}
    dense = [shape.dense.layers[layer] for layer in of]
    chosen = [each for each in choices if of & set(each.layers)]
    attention = {(each.kv_groups, each.heads_per_group) for each in dense}
    attention |= {(value[0], value[1]) for each in chosen if each.component == "attention" for value in each.values}
    values = {value[0] for each in chosen if each.component == "mlp" for value in each.values}
    widths = sorted((values | {each.mlp_width for each in dense}) - {0})
    places = np.unique(np.linspace(0, len(widths) - 1, min(WIDTHS, len(widths))).round().astype(int))
    return TimedSizes(tuple(sorted(filter(min, attention))), (0, *(widths[place] for place in places)))


def models_to_time(shape: ModelShape, sizes: Sequence[TimedSizes]) -> list[Architecture]:
    """Architectures to time so that the time of each size can be fitted.

    They are the dense model; a model without any component; for each size a model that has it in all layers of a kind,
    and for each component a model that lacks it there; and :data:`MIXED` models with sizes drawn for every layer, like
    the models whose speed will be predicted.
    """
    dense, kinds, rng = shape.dense.layers, shape.kinds, np.random.default_rng(0)
    layers: list[Sequence[Sequence[int]]] = [dense, [(0, 0, 0)] * len(dense)]
    layers += [
        [changed if kind == other else old for changed, old, other in zip(variant, dense, kinds, strict=True)]
        for kind, each in enumerate(sizes)
        for variant in each.variants_of(dense)
    ]
    layers += [[sizes[kind].drawn(rng) for kind in kinds] for _ in range(MIXED)]
    return list(map(Architecture, layers))


def component_times(
    models: TimedModels, shape: ModelShape, choices: Sequence[Choice], work: Workload, rounds: int = ROUNDS
) -> SpeedTable:
    """Measure the table of the sizes that the choices of a space have, and of the dense model.

    The times of components are fitted to the times of :func:`models_to_time` by least squares of the relative errors.

    Args:
        models: the models.
        shape: sizes of the dense model.
        choices: the choices.
        work: the workload to time.
        rounds: as for :meth:`TimedModels.usual_times`.
    """
    sizes = sizes_to_time(shape, choices)
    return table_of(models.usual_times(models_to_time(shape, sizes), work, rounds), shape, sizes, work)


def table_of(
    times: Mapping[Architecture, Times], shape: ModelShape, sizes: Sequence[TimedSizes], work: Workload
) -> SpeedTable:
    """Fit the speed table to measured times of whole models, by least squares.

    It has a fixed time, and a time for each size of each kind of layer.

    Args:
        times: times of the architectures of :func:`models_to_time`.
        shape: sizes of the dense model.
        sizes: sizes of each kind of layer that have a time of their own.
        work: the workload that was timed.
    """
    parts = np.stack([_parts_of(each, shape.kinds, sizes) for each in times])
    fixed, *of_sizes = _fitted(parts, list(times.values()))
    begin, layers = 0, []
    for each in sizes:
        end = begin + each.count
        layers.append(each.times(of_sizes[begin:end]))
        begin = end
    return SpeedTable(work.batch, work.context, fixed, shape.kinds, tuple(layers))


def _parts_of(architecture: Architecture, kinds: Sequence[int], sizes: Sequence[TimedSizes]) -> NDArray[np.float64]:
    """How often each time of the table occurs in an architecture: once the fixed one, then those of each kind."""
    counts = [np.zeros(each.count) for each in sizes]
    for layer, kind in zip(architecture.layers, kinds, strict=True):
        counts[kind] += sizes[kind].parts_of(layer)
    return np.concatenate([[1.0], *counts])


def _fitted(parts: NDArray[np.float64], measured: Sequence[Times]) -> list[Times]:
    """Times of K parts, at least 0, from how often they occur in M models, shape (M, K), and the times of these."""
    columns = []
    for times in np.array(measured, dtype=np.float64).T:
        solution = np.linalg.lstsq(parts / times[:, None], np.ones(len(times)), rcond=None)[0]
        columns.append(np.maximum(solution.round(), 0).astype(int).tolist())
    return [Times(*row) for row in zip(*columns, strict=True)]
