"""Model families: where the projections of a decoder layer are, as data.

Supporting a family means describing it here; the forward pass stays the one of the stock transformers classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunecast.architecture import Architecture
from prunecast.errors import ModelError
from prunecast.shape import ComponentCost, ModelShape

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Family:
    """Names of the parts of one decoder layer, relative to the layer.

    Attributes:
        name: the ``model_type`` of the transformers config.
        layers: path of the list of layers in the causal language model.
        attention, mlp: the two component modules.
        query, key, value, output: linear projections of the attention.
        gate, up, down: linear projections of the MLP; a channel is a row of ``gate`` and ``up``, a column of ``down``.
        attention_norms, mlp_norms: norms of the layer that only the component needs: they go when all of it goes.
    """

    name: str
    layers: str = "model.layers"
    attention: str = "self_attn"
    mlp: str = "mlp"
    query: str = "q_proj"
    key: str = "k_proj"
    value: str = "v_proj"
    output: str = "o_proj"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    attention_norms: tuple[str, ...] = ("input_layernorm",)
    mlp_norms: tuple[str, ...] = ("post_attention_layernorm",)


FAMILIES: Mapping[str, Family] = {name: Family(name) for name in ("llama", "mistral", "qwen2", "qwen3")}


def family_of(config: "PreTrainedConfig") -> Family:
    """The family of a model's config. Raises ModelError, saying how to describe it, for one that is not described."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(
            f"model type {config.model_type!r} is not described (described: {', '.join(FAMILIES)}): "
            f"add Family({config.model_type!r}, query='...', ...) to prunecast/models/families.py"
        )
    return family


@dataclass(frozen=True)
class LayerParts:
    """The modules of one decoder layer, found through its family's description."""

    layer: "nn.Module"
    attention: "nn.Module"
    mlp: "nn.Module"
    query: "nn.Linear"
    key: "nn.Linear"
    value: "nn.Linear"
    output: "nn.Linear"
    gate: "nn.Linear"
    up: "nn.Linear"
    down: "nn.Linear"

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return int(self.attention.head_dim)  # type: ignore[arg-type]  # nn.Module does not know its attributes


def layers_of(model: "PreTrainedModel", family: Family) -> Iterator[LayerParts]:
    """Parts of each decoder layer, first layer first."""
    for layer in model.get_submodule(family.layers):  # type: ignore[attr-defined]  # a ModuleList
        attention, mlp = layer.get_submodule(family.attention), layer.get_submodule(family.mlp)
        of_attention = {
            part: attention.get_submodule(getattr(family, part)) for part in ("query", "key", "value", "output")
        }
        of_mlp = {part: mlp.get_submodule(getattr(family, part)) for part in ("gate", "up", "down")}
        yield LayerParts(layer, attention, mlp, **of_attention, **of_mlp)


def shape_of(config: "PreTrainedConfig") -> ModelShape:
    """Sizes of the dense model that ``config`` describes, counted on a model without memory.

    Raises:
        ModelError: the family is not described, or its parameters are not where the description says.
    """
    import torch
    from transformers import AutoModelForCausalLM

    family = family_of(config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    groups = config.num_key_value_heads
    heads = config.num_attention_heads // groups
    parts = list(layers_of(model, family))
    first = parts[0]
    attention = ComponentCost(
        base=_rest(first, first.attention, (first.query, first.key, first.value), family.attention_norms)
        - first.output.weight.numel(),
        unit=(_size(first.key) + _size(first.value)) // groups,
        head=(_size(first.query) + first.output.weight.numel()) // (groups * heads),
        unit_vectors=(_bias(first.key) + _bias(first.value)) // groups,
        head_vectors=_bias(first.query) // (groups * heads),
    )
    width = first.up.out_features
    mlp = ComponentCost(
        base=_rest(first, first.mlp, (first.gate, first.up), family.mlp_norms) - first.down.weight.numel(),
        unit=(_size(first.gate) + _size(first.up) + first.down.weight.numel()) // width,
        unit_vectors=(_bias(first.gate) + _bias(first.up)) // width,
    )
    in_layers = len(parts) * (
        attention.base + attention.unit * groups + attention.head * groups * heads + mlp.base + mlp.unit * width
    )
    total = model.num_parameters()
    if in_layers != sum(p.numel() for part in parts for p in part.layer.parameters()):
        raise ModelError(
            f"the description of family {family.name!r} does not cover its layers' parameters: "
            "check the norms and projections it names in prunecast/models/families.py"
        )
    embeddings = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    return ModelShape(
        family=family.name,
        dense=Architecture([(groups, heads, width)] * len(parts)),
        hidden_size=config.hidden_size,
        head_dim=first.head_dim,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        embeddings=sum(weight.numel() for weight in embeddings),
        fixed=total - in_layers,
        attention=attention,
        mlp=mlp,
    )


def _size(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _bias(linear: "nn.Linear") -> int:
    return 0 if linear.bias is None else linear.bias.numel()


def _rest(parts: LayerParts, component: "nn.Module", shrinking: tuple["nn.Linear", ...], norms: tuple[str, ...]) -> int:
    """Parameters of a component, its norms included, beside those of the projections whose outputs shrink."""
    own_norms = sum(_size(parts.layer.get_submodule(norm)) for norm in norms)
    return _size(component) + own_norms - sum(map(_size, shrinking))
