"""Choice of an architecture of llama.cpp for a pruned model, and of exact stand-ins for components it cannot omit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.choices import Component
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ExportError
from prunecast.export.gguf.targets import Target, targets_of
from prunecast.plugins.exporter import Limits

Dtype = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
"""Number format of the matrices of a file."""

DTYPES: tuple[Dtype, ...] = get_args(Dtype)

QUANTISED: tuple[Dtype, ...] = ("q8_0", "q4_0")
"""Formats that need rows in multiples of :data:`BLOCK`."""

BLOCK = 32
"""Count of numbers in a block of a quantised row; also the count of zero channels that stand in for an MLP."""


OUTPUTS: Mapping[Component, str] = {"attention": "attn_output", "mlp": "ffn_down"}
"""Tensors of the output projections of the components."""


@dataclass(frozen=True)
class WrittenLayer:
    """One layer of a file.

    Attributes:
        index: index of the layer in the pruned model.
        kept: sizes in the pruned model.
        written: sizes in the file; units beyond ``kept`` are zeros.
    """

    index: int
    kept: Layer
    written: Layer


@dataclass(frozen=True)
class Plan:
    """Contents of a file.

    Attributes:
        target: architecture of llama.cpp.
        layers: its layers.
        notes: one line for each substitution.
    """

    target: Target
    layers: tuple[WrittenLayer, ...]
    notes: tuple[str, ...]


def limits_of(shape: ModelShape, dtype: Dtype) -> Limits:
    """Limits on the architectures of a model that can be written as GGUF.

    Args:
        shape: sizes of the dense model.
        dtype: number format of the file.

    Raises:
        ExportError: llama.cpp has no architecture for the family, or not for the dense model.
    """
    plan(shape, shape.dense, dtype)

    def problem(architecture: Architecture) -> str | None:
        try:
            plan(shape, architecture, dtype)
        except ExportError as error:
            return str(error)
        return None

    any_sizes = [each for each in targets_of(shape.family) if each.sizes_by_layer and _allows_head(each, shape)]
    widest = any_sizes or targets_of(shape.family)
    biases = frozenset(component for component, name in OUTPUTS.items() if name in widest[0].biases)
    return Limits(problem, alike=not any_sizes, biases=biases)


def plan(
    shape: ModelShape, architecture: Architecture, dtype: Dtype, biased: Collection[Component] = frozenset()
) -> Plan:
    """Contents of the file for an architecture.

    It has the plain form of its family if its layers are equal, else a form with sizes by layer. A layer that keeps
    nothing is left out. A missing MLP becomes channels of zeros; a missing attention, where llama.cpp cannot omit it,
    becomes one KV group with one head of zeros. Quantised MLPs are padded with zero channels to full blocks.

    Args:
        shape: sizes of the dense model.
        architecture: sizes that each layer keeps.
        dtype: number format of the file.
        biased: components whose output projection has a bias; a form with a place for it is preferred.

    Raises:
        ExportError: it cannot be expressed.
    """
    kept = [(index, layer) for index, layer in enumerate(architecture.layers) if layer.kv_groups or layer.mlp_width]
    if not kept:
        raise ExportError("the architecture keeps no layer, which llama.cpp does not load: keep one")
    target = _target(shape, [layer for _, layer in kept], dtype, biased)
    layers = tuple(
        WrittenLayer(index, layer, _written(layer, dtype, target.no_attention and number > 0))
        for number, (index, layer) in enumerate(kept)
    )
    _check_windows(shape, target, layers)
    return Plan(target, layers, tuple(_notes(architecture, layers)))


def _target(shape: ModelShape, kept: Sequence[Layer], dtype: Dtype, biased: Collection[Component]) -> Target:
    """Target of the family that fits the sizes of the layers and the embeddings."""
    sizes = {_written(layer, dtype, without_attention=False) for layer in kept}
    targets = targets_of(shape.family)
    square = all(layer.query_heads * shape.head_dim == shape.hidden_size for layer in sizes)
    fitting = [
        target for target in targets if target.sizes_by_layer or (len(sizes) == 1 and (square or not target.square))
    ]
    if not fitting:
        raise ExportError(
            f"llama.cpp's {targets[0].name!r} has the same sizes in all layers, this architecture has {len(sizes)} "
            "different ones: prune all layers alike, or leave whole layers out"
        )
    fitting.sort(key=lambda target: not {OUTPUTS[each] for each in biased} <= target.biases)
    if not _allows_head(fitting[0], shape):
        raise ExportError(
            f"llama.cpp's {fitting[0].name!r}, needed for {shape.family} with layers of different sizes, has no output "
            "embedding of its own, this model has one: prune all layers alike, or choose another target"
        )
    return fitting[0]


def _allows_head(target: Target, shape: ModelShape) -> bool:
    tied = shape.embeddings == shape.vocabulary * shape.hidden_size
    return tied or not target.tied_only


def _written(layer: Layer, dtype: Dtype, without_attention: bool) -> Layer:
    """Sizes of a layer in the file."""
    groups, heads, width = layer
    if not groups and not without_attention:
        groups, heads = 1, 1
    if not width:
        width = BLOCK
    return Layer(groups, heads, -(-width // BLOCK) * BLOCK if dtype in QUANTISED else width)


def _check_windows(shape: ModelShape, target: Target, layers: Sequence[WrittenLayer]) -> None:
    """Raise ExportError unless llama.cpp gives each layer the sliding window that it has in the model."""
    slides = [shape.layers[layer.index].window is not None for layer in layers]
    period = target.windows
    expected = [bool(period) and (number + 1) % (period or 1) > 0 for number in range(len(layers))]
    if slides == expected or (period and not any(slides)):
        return
    wrong, windowed = next(
        (layer.index, one) for layer, one, other in zip(layers, slides, expected, strict=True) if one != other
    )
    sees, given = ("a sliding window", "the whole context")[:: 1 if windowed else -1]
    remedy = f"leave layers out only in runs of {period}" if period else "choose another target"
    raise ExportError(f"layer {wrong} sees {sees}, llama.cpp's {target.name!r} would give it {given}: {remedy}")


def _notes(architecture: Architecture, layers: Sequence[WrittenLayer]) -> list[str]:
    removed = sorted(set(range(len(architecture.layers))) - {layer.index for layer in layers})
    attention = [layer.index for layer in layers if layer.written.kv_groups > layer.kept.kv_groups]
    mlp = [layer.index for layer in layers if not layer.kept.mlp_width]
    padded = [layer.index for layer in layers if layer.written.mlp_width > layer.kept.mlp_width > 0]
    notes = {
        f"left out, as they keep nothing (the file has {len(layers)} layers)": removed,
        "one KV group with an output projection of zeros stands in for the missing attention": attention,
        f"{BLOCK} channels of zeros stand in for the missing MLP": mlp,
        f"the MLP is padded with channels of zeros to a multiple of {BLOCK}": padded,
    }
    return [f"{_listed(indices)}: {text}" for text, indices in notes.items() if indices]


def _listed(indices: Sequence[int]) -> str:
    return f"layer{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices))}"
