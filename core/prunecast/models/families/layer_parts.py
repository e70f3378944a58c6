"""Parts of a decoder layer: its attention, projections and norms, located through the description of its family.

Notation:
    D            width of the residual stream
    D_in, D_out  inputs and outputs of a projection
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Layer
from prunecast.errors import ModelError
from prunecast.models.families.family import Family

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.pytorch_utils import Conv1D

KEPT_HEADS = "kept_heads"
"""Buffer of an attention whose arguments hold something for each head: the heads it has, int64 of shape (heads,)."""

_LINEAR = (
    "torch.nn.modules.linear.Linear",
    "transformers.pytorch_utils.Conv1D",
    "transformers.models.falcon.modeling_falcon.FalconLinear",
)
"""Classes that compute x W' + b and nothing else."""


@dataclass(frozen=True)
class Projection:
    """A linear projection: a module of its own, or some rows of a fused one.

    Attributes:
        name: name of the module, relative to the layer.
        module: an ``nn.Linear``, or a ``Conv1D``, which stores its weight as (D_in, D_out).
        rows: rows of this projection in the weight of the module, seen as (D_out, D_in): a slice, or int64 indices.
        transposed: True if the module is a ``Conv1D``.
    """

    name: str
    module: "nn.Linear | Conv1D"
    rows: "slice | Tensor"
    transposed: bool

    def weight(self, of: "Callable[[Tensor], Tensor]" = lambda parameter: parameter) -> "Tensor":
        """The weight, shape (D_out, D_in), after ``of``, a function of the whole parameter that keeps its shape."""
        whole = of(self.module.weight)
        return (whole.t() if self.transposed else whole)[self.rows]

    def bias(self, of: "Callable[[Tensor], Tensor]" = lambda parameter: parameter) -> "Tensor | None":
        """The bias, shape (D_out,), after ``of``, a function of the whole parameter; None if there is no bias."""
        return None if self.module.bias is None else of(self.module.bias)[self.rows]

    @property
    def vectors(self) -> int:
        """Number of parameters in the bias."""
        bias = self.bias()
        return 0 if bias is None else bias.numel()

    @property
    def size(self) -> int:
        """Number of parameters, including the bias."""
        return self.weight().numel() + self.vectors


@dataclass(frozen=True)
class LayerParts:
    """One decoder layer, with its sizes, its attention and its projections.

    A component that the model does not have has projections without rows or without columns: of models that have been
    pruned before, layers may be without attention or MLP.

    Attributes:
        layer: the decoder layer.
        sizes: its KV groups, query heads per group, and MLP width.
        attention: the attention module.
        query, key, value, output: projections of the attention.
        up, down, gate: projections of the MLP; ``gate`` is None if there is no such projection.
        head_dim: width of one head; 0 if there is no attention.
        query_norm, key_norm: norms whose weights belong to heads and to groups; None if there are none.
    """

    layer: "nn.Module"
    sizes: Layer
    attention: "nn.Module"
    query: Projection
    key: Projection
    value: Projection
    output: Projection
    up: Projection
    down: Projection
    gate: Projection | None
    head_dim: int
    query_norm: "nn.Module | None" = None
    key_norm: "nn.Module | None" = None

    @property
    def widening(self) -> tuple[Projection, ...]:
        """Projections whose rows are the channels of the MLP: gate, if there is one, and up."""
        return (self.up,) if self.gate is None else (self.gate, self.up)

    @property
    def projections(self) -> tuple[Projection, ...]:
        """Projections of the components that the layer has."""
        attention = (self.query, self.key, self.value, self.output) if self.sizes.kv_groups else ()
        return attention + ((*self.widening, self.down) if self.sizes.mlp_width else ())

    @property
    def outputs(self) -> tuple[Projection, ...]:
        """Projections back into the residual stream of the components that the layer has."""
        attention = (self.output,) if self.sizes.kv_groups else ()
        return attention + ((self.down,) if self.sizes.mlp_width else ())


def layers_of(model: "PreTrainedModel", family: Family) -> Iterator[LayerParts]:
    """Parts of each decoder layer, first layer first. The layers may differ in size.

    Args:
        model: the model.
        family: description of its family, as settled for its config.

    Raises:
        ModelError: a described module does not exist, is not a linear projection, or has another number of outputs.
    """
    config = model.config.get_text_config()
    for index, layer in enumerate(list_of_layers(model, family)):
        yield parts_of(layer, index, config, family)


def parts_of(layer: "nn.Module", index: int, config: "PreTrainedConfig", family: Family) -> LayerParts:
    """Parts of one decoder layer.

    Args:
        layer: the layer.
        index: its number in the model that ``config`` describes.
        config: config of the text model.
        family: description of its family, as settled for the config.

    Raises:
        ModelError: as :func:`layers_of`.
    """
    own = config if not getattr(config, "per_layer_config", None) else config.per_layer_config[index]
    heads = getattr(own, family.heads_attribute, None)
    if type(heads) is not int:
        held = "does not have" if heads is None else f"has as {heads!r}, not a number of heads"
        raise _wrong(family, "heads_attribute", f"which the config {held}")
    width = None if own is config else getattr(own, family.width_attribute)
    return _layer_parts(layer, family, heads, width != 0, config)


def list_of_layers(model: "PreTrainedModel", family: Family) -> "nn.ModuleList | nn.Sequential":
    """The list of layers. Raises ModelError if it is none, or has another number of them than the config says."""
    from torch import nn

    found, depth = _module(model, "layers", family), model.config.get_text_config().num_hidden_layers
    if not isinstance(found, nn.ModuleList | nn.Sequential):
        raise _wrong(family, "layers", f"which is a {_type_name(found)}, not a list of layers")
    if len(found) != depth:
        raise _wrong(family, "layers", f"which is a list of {len(found)} modules for {depth} layers")
    return found


def of_heads(whole: "Tensor", kept: "Tensor", heads: int) -> "Tensor":
    """The part for the kept heads of a tensor of shape (heads, ...), (B x heads, ...) or (B, heads, T, T).

    A tensor of another shape holds nothing for single heads, and is returned as it is.
    """
    if whole.ndim == 4:
        return whole[:, kept] if whole.shape[1] == heads else whole
    if whole.shape[0] % heads:
        return whole
    return whole.view(-1, heads, *whole.shape[1:])[:, kept].flatten(0, 1)


def _layer_parts(
    layer: "nn.Module", family: Family, heads: int, has_mlp: bool, config: "PreTrainedConfig"
) -> LayerParts:
    hidden = config.hidden_size
    head_dim = _head_dim(layer, family, heads, hidden) if heads else 0
    groups = _groups(layer, family, heads, head_dim) if heads else 0
    rows = {"query": heads * head_dim, "key": groups * head_dim, "value": groups * head_dim, "output": hidden}
    attention = _projections(layer, family, rows) if heads else _nothing(layer, rows, "output", hidden)
    if heads and family.fused == "groups" and family.query == family.key == family.value:
        attention |= _interleaved(attention["query"], groups, heads // groups, head_dim)
    width = _linear(layer, "down", family).weight.numel() // hidden if has_mlp else 0
    channels = dict.fromkeys(("up",) if family.gate is None else ("gate", "up"), width) | {"down": hidden}
    mlp = _projections(layer, family, channels) if width else _nothing(layer, channels, "down", hidden)
    parts: dict[str, Any] = {"gate": None} | attention | mlp
    return LayerParts(
        layer=layer,
        sizes=Layer(groups, heads // groups if groups else 0, width),
        attention=_module(layer, "attention", family),
        head_dim=head_dim,
        **parts,
        query_norm=_norm(layer, "query_norm", family, rows["query"]),
        key_norm=_norm(layer, "key_norm", family, rows["key"]),
    )


def _head_dim(layer: "nn.Module", family: Family, heads: int, hidden: int) -> int:
    inputs = _linear(layer, "output", family).weight.numel() // hidden
    if inputs % heads:
        raise _wrong(family, "output", f"which has {inputs} inputs for {heads} query heads")
    return inputs // heads


def _groups(layer: "nn.Module", family: Family, heads: int, head_dim: int) -> int:
    """Number of KV groups, from the outputs of the module that has the keys."""
    rows = _outputs(_linear(layer, "key", family))
    if family.key == family.query:
        rows -= heads * head_dim
    if family.key == family.value:
        rows //= 2
    groups = rows // head_dim
    if groups < 1 or groups * head_dim != rows or heads % groups:
        raise _wrong(family, "key", f"which has {rows} outputs of keys for {heads} query heads of width {head_dim}")
    return groups


def _nothing(layer: "nn.Module", rows: Mapping[str, int], back: str, hidden: int) -> dict[str, Projection]:
    """Projections of a component that is not there: of D inputs and no outputs, and of no inputs and D outputs."""
    import torch
    from torch.nn.utils import skip_init as typed

    skip_init: Any = typed  # torch gives it no types
    device = next((parameter.device for parameter in layer.parameters()), torch.device("cpu"))

    def empty(part: str) -> Projection:
        sizes = (0, hidden) if part == back else (hidden, 0)
        with warnings.catch_warnings():  # torch warns that it has nothing to initialise
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            module: nn.Linear = skip_init(torch.nn.Linear, *sizes, bias=False, device=device)
        return Projection("", module, slice(None), False)

    return {part: empty(part) for part in rows}


def _interleaved(fused: Projection, groups: int, per_group: int, head_dim: int) -> dict[str, Projection]:
    """Query, key and value of a module that has them group by group."""
    import torch

    rows = torch.arange(groups * (per_group + 2) * head_dim, device="cpu").view(groups, per_group + 2, head_dim)
    own = {"query": rows[:, :per_group], "key": rows[:, per_group], "value": rows[:, per_group + 1]}
    return {part: Projection(fused.name, fused.module, each.flatten(), False) for part, each in own.items()}


def _norm(layer: "nn.Module", part: str, family: Family, rows: int) -> "nn.Module | None":
    """A norm of queries or keys whose weights belong to heads, if the layer has it."""
    name = getattr(family, part)
    try:
        norm = layer.get_submodule(name) if name and rows else None
    except AttributeError:
        return None
    if norm is not None:
        weights = sum(weight.numel() for key, weight in norm.named_parameters() if key.endswith("weight"))
        if weights != rows:
            raise _wrong(family, part, f"which has {weights} weights for {rows} rows")
    return norm


def _outputs(module: "nn.Linear | Conv1D") -> int:
    from transformers.pytorch_utils import Conv1D

    return int(module.weight.shape[1 if isinstance(module, Conv1D) else 0])


def _projections(layer: "nn.Module", family: Family, outputs: Mapping[str, int]) -> dict[str, Projection]:
    """Projections of a layer by part, from the number of outputs of each; fused ones are in the order of ``outputs``.

    Raises:
        ModelError: a module is missing, is not a linear projection, or has another number of outputs.
    """
    from transformers.pytorch_utils import Conv1D

    found: dict[str, Projection] = {}
    taken: Counter[str] = Counter()
    for part, count in outputs.items():
        name, module = getattr(family, part), _linear(layer, part, family)
        found[part] = Projection(name, module, slice(taken[name], taken[name] + count), isinstance(module, Conv1D))
        taken[name] += count
    for part, projection in found.items():
        available = _outputs(projection.module)
        if available != taken[projection.name]:
            raise _wrong(family, part, f"which has {available} outputs where {taken[projection.name]} are expected")
    return found


def is_linear(module: "nn.Module") -> bool:
    """True for a linear projection. Subclasses may do more with their weight: read codes, add an adapter, scale it."""
    kind = type(module)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return name in _LINEAR and "forward" not in vars(module)


def _linear(layer: "nn.Module", part: str, family: Family) -> "nn.Linear | Conv1D":
    module = _module(layer, part, family)
    if not is_linear(module):
        raise _wrong(family, part, f"which is a {_type_name(module)}, not a linear projection")
    plain: nn.Linear | Conv1D = module  # type: ignore[assignment]  # checked above
    return plain


def _type_name(module: "nn.Module") -> str:
    """Name of a module's class, with its package unless that is torch or transformers, whose names suffice."""
    kind = type(module)
    changed = " with a forward pass of its own" if "forward" in vars(module) else ""
    package = kind.__module__.split(".")[0]
    return f"{'' if package in ('torch', 'transformers') else f'{package} '}{kind.__name__}{changed}"


def _module(parent: "nn.Module", part: str, family: Family) -> "nn.Module":
    try:
        return parent.get_submodule(getattr(family, part))
    except AttributeError as error:
        raise _wrong(family, part, "which does not exist") from error


def _wrong(family: Family, part: str, reason: str) -> ModelError:
    return ModelError(
        f"family {family.name!r} is described with {part}={getattr(family, part)!r}, {reason}: prune a model whose "
        "layers are as described, with plain weights, or describe its family in a file (model.family)"
    )
