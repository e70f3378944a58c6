"""Model families: descriptions, as data, of the modules and projections of a decoder layer.

A family is supported by a description here. The forward pass remains that of the stock transformers classes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ComponentCost, ModelShape
from prunecast.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.pytorch_utils import Conv1D

SizeName = Literal["kv_groups", "query_heads", "heads_per_group", "query_width"]
"""Name of a size that an attribute of an attention module can depend on.

``query_width`` is query heads x width of a head.
"""


@dataclass(frozen=True)
class Family:
    """Locations of the parts of one decoder layer. Names of modules are relative to the layer.

    A module named for several of query, key and value, or for gate and up, is fused: it concatenates their outputs in
    this order. Projections are ``nn.Linear`` or ``Conv1D``.

    Attributes:
        name: the ``model_type`` of the transformers config.
        layers: path of the list of layers in the causal language model.
        attention: the attention module.
        mlp: modules removed with the MLP: its module, or its projections if they are directly in the layer.
        query, key, value, output: projections of the attention.
        gate, up, down: projections of the MLP; a channel is a row of ``gate`` and ``up``, a column of ``down``.
            ``gate`` is None if there is no such projection.
        attention_norms, mlp_norms: norms of the layer that only this component needs, removed with all of it.
        lasting: modules of the layer that remain even if both components are removed.
        norms_first: attribute of the config that is true if the norms belong to the components, as above. If it is
            false, they normalise the residual stream itself and remain. None if the family has no such attribute.
        heads_attribute, groups_attribute, width_attribute: attributes of the config with the number of query heads, the
            number of KV groups and the MLP width; None for the groups if every query head has its own.
        follows: attributes of the attention module that its forward pass depends on, each with the name of the size it
            is set to. ``config.NAME`` is an attribute of the config as read by this attention module alone.
        bos: True if its models need a beginning-of-sequence token in front of every text: all were trained with it.
    """

    name: str
    layers: str = "model.layers"
    attention: str = "self_attn"
    mlp: tuple[str, ...] = ("mlp",)
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"
    gate: str | None = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    attention_norms: tuple[str, ...] = ("input_layernorm",)
    mlp_norms: tuple[str, ...] = ("post_attention_layernorm",)
    lasting: tuple[str, ...] = ()
    norms_first: str | None = None
    heads_attribute: str = "num_attention_heads"
    groups_attribute: str | None = "num_key_value_heads"
    width_attribute: str = "intermediate_size"
    follows: Mapping[str, SizeName] = field(
        default_factory=lambda: {"num_key_value_groups": "heads_per_group"}, hash=False
    )
    bos: bool = False

    def heads_of(self, config: "PreTrainedConfig") -> tuple[int, int]:
        """Number of KV groups, and of query heads per group, of the dense model."""
        heads = getattr(config, self.heads_attribute)
        groups = heads if self.groups_attribute is None else getattr(config, self.groups_attribute)
        return groups, heads // groups


_DESCRIBED = (
    *map(Family, ("llama", "mistral", "qwen2", "qwen3", "smollm3")),
    Family("gemma", bos=True),
    *(
        Family(
            name,
            attention_norms=("input_layernorm", "post_attention_layernorm"),
            mlp_norms=("pre_feedforward_layernorm", "post_feedforward_layernorm"),
            bos=True,
        )
        for name in ("gemma2", "gemma3_text")
    ),
    Family(
        "phi3",
        query="self_attn.qkv_proj",
        key="self_attn.qkv_proj",
        value="self_attn.qkv_proj",
        gate="mlp.gate_up_proj",
        up="mlp.gate_up_proj",
        follows={
            "num_key_value_groups": "heads_per_group",
            "num_key_value_heads": "kv_groups",
            "config.num_attention_heads": "query_heads",
        },
    ),
    Family(
        "gpt2",
        layers="transformer.h",
        attention="attn",
        query="attn.c_attn",
        key="attn.c_attn",
        value="attn.c_attn",
        output="attn.c_proj",
        gate=None,
        up="mlp.c_fc",
        down="mlp.c_proj",
        attention_norms=("ln_1",),
        mlp_norms=("ln_2",),
        heads_attribute="n_head",
        groups_attribute=None,
        width_attribute="n_inner",
        follows={"split_size": "query_width"},
    ),
    Family(
        "opt",
        layers="model.decoder.layers",
        mlp=("fc1", "fc2"),
        output="self_attn.out_proj",
        gate=None,
        up="fc1",
        down="fc2",
        attention_norms=("self_attn_layer_norm",),
        mlp_norms=("final_layer_norm",),
        norms_first="do_layer_norm_before",
        groups_attribute=None,
        width_attribute="ffn_dim",
        follows={"num_heads": "query_heads"},
    ),
)

FAMILIES: Mapping[str, Family] = {family.name: family for family in _DESCRIBED}


_EXPORTED = "prunecast-"
"""Beginning of the model types of exports, whose layers have sizes of their own."""


def check_type(config: Mapping[str, Any], name: str) -> None:
    """Raise ModelError unless the model type in the content of a config is that of a described family.

    Needs no weight, and runs no code of the model's own. A type that transformers does not know either, and a config
    without one, are left to its own reader.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind, coded = config.get("model_type"), bool(config.get("auto_map"))
    if not isinstance(kind, str) or kind in FAMILIES:
        return
    if kind.startswith(_EXPORTED):
        raise ModelError(
            f"model {name}: is an export of prunecast, pruned already: take its dense model (model.source in its "
            "prunecast_spec.yaml) with a smaller budget and the same --registry, which holds what was measured"
        )
    if kind in CONFIG_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"model {name}: type {kind!r} is not a causal language model; choose one that is")
    if kind in CONFIG_MAPPING:
        raise ModelError(f"model {name}: {_undescribed(kind)}")
    if coded:
        raise ModelError(
            f"model {name}: {_undescribed(kind)}; transformers has no class for it, and trust_remote_code: true does "
            "not help: code of its own is compared with a stock class, never pruned"
        )


def _undescribed(kind: str) -> str:
    return (
        f"type {kind!r} is not described (described: {', '.join(FAMILIES)}): choose a model of one of these; a "
        "description is data (prunecast.models.families.Family), which plugins and data files cannot add yet"
    )


def family_of(config: "PreTrainedConfig") -> Family:
    """Description of the family of a model.

    Raises:
        ModelError: the family is not described; the message names those that are.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(f"model {_undescribed(config.model_type)}")
    if family.norms_first is not None and not getattr(config, family.norms_first):
        return replace(family, attention_norms=(), mlp_norms=(), lasting=family.attention_norms + family.mlp_norms)
    return family


def needs_bos(family: str) -> bool:
    """True if models of the family, given by name, need a beginning-of-sequence token in front of every text."""
    return family in FAMILIES and FAMILIES[family].bos


@dataclass(frozen=True)
class Projection:
    """A linear projection: a module of its own, or some rows of a fused one.

    Attributes:
        name: name of the module, relative to the layer.
        module: an ``nn.Linear``, or a ``Conv1D``, which stores its weight as (D_in, D_out).
        rows: rows of this projection in the weight of the module, seen as (D_out, D_in).
        transposed: True if the module is a ``Conv1D``.
    """

    name: str
    module: "nn.Linear | Conv1D"
    rows: slice
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
    """One decoder layer with its attention and projections, located through the description of its family."""

    layer: "nn.Module"
    attention: "nn.Module"
    query: Projection
    key: Projection
    value: Projection
    output: Projection
    up: Projection
    down: Projection
    gate: Projection | None = None

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return int(self.attention.head_dim)  # type: ignore[arg-type]  # nn.Module does not know its attributes

    @property
    def widening(self) -> tuple[Projection, ...]:
        """Projections whose rows are the channels of the MLP: gate, if there is one, and up."""
        return (self.up,) if self.gate is None else (self.gate, self.up)


def layers_of(model: "PreTrainedModel", family: Family) -> Iterator[LayerParts]:
    """Parts of each decoder layer, first layer first.

    Raises:
        ModelError: a described module does not exist, is not a linear projection, or has another number of outputs.
    """
    groups, per_group = family.heads_of(model.config)
    hidden = model.config.hidden_size
    for layer in _module(model, "layers", family):  # type: ignore[attr-defined]  # a ModuleList
        attention = _module(layer, "attention", family)
        head_dim = int(attention.head_dim)  # type: ignore[arg-type]  # nn.Module does not know its attributes
        channels = _linear(layer, "down", family).weight.numel() // hidden
        outputs = {"query": groups * per_group * head_dim, "key": groups * head_dim, "value": groups * head_dim}
        outputs |= ({} if family.gate is None else {"gate": channels}) | {"up": channels}
        yield LayerParts(layer, attention, **_projections(layer, family, outputs | {"output": hidden, "down": hidden}))


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
        available = projection.module.weight.shape[1 if projection.transposed else 0]
        if available != taken[projection.name]:
            raise _wrong(family, part, f"which has {available} outputs where {taken[projection.name]} are expected")
    return found


def _linear(layer: "nn.Module", part: str, family: Family) -> "nn.Linear | Conv1D":
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    module = _module(layer, part, family)
    # Subclasses may compute something else with their weight: of codes, with an adapter, with a scale.
    if type(module) not in (nn.Linear, Conv1D) or "forward" in vars(module):
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
        "layers are as described, with plain weights"
    )


def shape_of(config: "PreTrainedConfig") -> ModelShape:
    """Sizes of the dense model that ``config`` describes, counted on the meta device, without allocating weights.

    Raises:
        ModelError: the family is not described, or the description does not fit the modules of the model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    family = family_of(config)
    with torch.device("meta"):
        # The stock class, without a question, also where the config names code of the model's own.
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    groups, per_group = family.heads_of(config)
    parts = list(layers_of(model, family))
    width = parts[0].down.weight().shape[1]
    attention, mlp = _attention_cost(parts[0], family, groups, groups * per_group), _mlp_cost(parts[0], family, width)
    in_attention = attention.base + groups * (attention.unit + per_group * attention.head)
    in_layer = in_attention + mlp.base + mlp.unit * width
    for layer in parts:
        _check_covered(layer, family, in_layer)
    embeddings = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    return ModelShape(
        family=family.name,
        dense=Architecture([(groups, per_group, width)] * len(parts)),
        hidden_size=config.hidden_size,
        head_dim=parts[0].head_dim,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        embeddings=sum(weight.numel() for weight in embeddings),
        fixed=model.num_parameters() - len(parts) * in_layer,
        attention=attention,
        mlp=mlp,
    )


def _attention_cost(parts: LayerParts, family: Family, groups: int, heads: int) -> ComponentCost:
    query, key, value, output = parts.query, parts.key, parts.value, parts.output.weight().numel()
    whole = _count(parts.layer, (family.attention, *family.attention_norms))
    return ComponentCost(
        base=whole - query.size - key.size - value.size - output,
        unit=(key.size + value.size) // groups,
        head=(query.size + output) // heads,
        unit_vectors=(key.vectors + value.vectors) // groups,
        head_vectors=query.vectors // heads,
    )


def _mlp_cost(parts: LayerParts, family: Family, width: int) -> ComponentCost:
    channels = sum(projection.size for projection in parts.widening) + parts.down.weight().numel()
    return ComponentCost(
        base=_count(parts.layer, (*family.mlp, *family.mlp_norms)) - channels,
        unit=channels // width,
        unit_vectors=sum(projection.vectors for projection in parts.widening) // width,
    )


def _check_covered(parts: LayerParts, family: Family, counted: int) -> None:
    """Raise ModelError unless the description names every matrix of a layer and accounts for all of its parameters."""
    described = {getattr(family, part) for part in ("query", "key", "value", "output", "gate", "up", "down")}
    names = [name for name, parameter in parts.layer.named_parameters() if parameter.ndim > 1]
    lasting = tuple(f"{module}." for module in family.lasting)
    unknown = [name for name in names if name.removesuffix(".weight") not in described and not name.startswith(lasting)]
    here = _count(parts.layer, ("",)) - _count(parts.layer, family.lasting)
    if unknown or here != counted:
        raise ModelError(
            f"the description of family {family.name!r} does not cover its layers' parameters "
            f"({unknown[0] if unknown else f'{counted:,} of {here:,}'}): "
            "prune a model whose layers are as described"
        )


def _count(layer: "nn.Module", names: Sequence[str]) -> int:
    """Number of parameters in the named modules of a layer."""
    return sum(parameter.numel() for name in names for parameter in layer.get_submodule(name).parameters())
