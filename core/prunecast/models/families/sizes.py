"""Sizes of a dense model, counted on the meta device through the description of its family."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.errors import ModelError
from prunecast.models.families.family import Family
from prunecast.models.families.layer_parts import LayerParts, layers_of
from prunecast.models.families.quiet import quiet_transformers
from prunecast.models.families.windows import context_of, windows_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


def shape_of(config: "PreTrainedConfig", family: Family) -> ModelShape:
    """Sizes of the dense model that ``config`` describes, counted on the meta device, without allocating weights.

    Args:
        config: the config.
        family: description of the family, as settled for this config.

    Raises:
        ModelError: the description does not fit the modules of the model.
    """
    model = model_without_weights(config)
    layers = list(layers_of(model, family))
    for parts in layers:
        _check_covered(parts, family)
    untyped: Any = model
    embeddings = {untyped.get_input_embeddings().weight, untyped.get_output_embeddings().weight}
    text = config.get_text_config()
    shape = ModelShape(
        family=family.name,
        bos=family.bos,
        dense=Architecture([parts.sizes for parts in layers]),
        hidden_size=text.hidden_size,
        head_dim=max(parts.head_dim for parts in layers),
        vocabulary=text.vocab_size,
        context=context_of(config),
        embeddings=sum(weight.numel() for weight in embeddings),
        fixed=0,
        layers=tuple(
            _layer_cost(parts, family, window) for parts, window in zip(layers, windows_of(config), strict=True)
        ),
    )
    return replace(shape, fixed=model.num_parameters() - int(shape.count([shape.dense])[0]))


def model_without_weights(config: "PreTrainedConfig") -> "PreTrainedModel":
    """The stock model of a config on the meta device, without a question where the config names code of its own."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"), quiet_transformers():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False
        )
    return model


def _layer_cost(parts: LayerParts, family: Family, window: int | None) -> LayerCost:
    return LayerCost(
        attention=_attention_cost(parts, family) if parts.sizes.kv_groups else _NOTHING,
        mlp=_mlp_cost(parts, family) if parts.sizes.mlp_width else _NOTHING,
        shared=_count(parts.layer, family.shared_norms),
        window=window if parts.sizes.kv_groups else None,
    )


_NOTHING = ComponentCost(0, 0)
"""Cost of a component that the model does not have."""


def _attention_cost(parts: LayerParts, family: Family) -> ComponentCost:
    groups, heads = parts.sizes.kv_groups, parts.sizes.query_heads
    query, key, value, output = parts.query, parts.key, parts.value, parts.output.weight().numel()
    of_heads, of_groups = _count_all(parts.query_norm), _count_all(parts.key_norm)
    whole = _count(parts.layer, (family.attention, *family.attention_norms))
    return ComponentCost(
        base=whole - query.size - key.size - value.size - output - of_heads - of_groups,
        unit=(key.size + value.size + of_groups) // groups,
        head=(query.size + output + of_heads) // heads,
        unit_vectors=(key.vectors + value.vectors + of_groups) // groups,
        head_vectors=(query.vectors + of_heads) // heads,
    )


def _mlp_cost(parts: LayerParts, family: Family) -> ComponentCost:
    width = parts.sizes.mlp_width
    channels = sum(projection.size for projection in parts.widening) + parts.down.weight().numel()
    return ComponentCost(
        base=_count(parts.layer, (*family.mlp, *family.mlp_norms)) - channels,
        unit=channels // width,
        unit_vectors=sum(projection.vectors for projection in parts.widening) // width,
    )


def _check_covered(parts: LayerParts, family: Family) -> None:
    """Raise ModelError unless the description names every matrix of a layer and accounts for all of its parameters."""
    named = [getattr(family, part) for part in ("query", "key", "value", "output", "gate", "up", "down")]
    norms = tuple(f"{name}." for name in (family.query_norm, family.key_norm, *family.lasting) if name)
    matrices = [name for name, parameter in parts.layer.named_parameters() if parameter.ndim > 1]
    unknown = [name for name in matrices if name.removesuffix(".weight") not in named and not name.startswith(norms)]
    removable = (family.attention, *family.mlp, *family.attention_norms, *family.mlp_norms, *family.shared_norms)
    counted = _count(parts.layer, removable) + _count(parts.layer, family.lasting)
    here = _count_all(parts.layer)
    if unknown or here != counted:
        raise ModelError(
            f"the description of family {family.name!r} does not cover its layers' parameters "
            f"({unknown[0] if unknown else f'{counted:,} of {here:,}'}): prune a model whose layers are as described, "
            "or describe its family in a file (model.family)"
        )


def _count(layer: "nn.Module", names: Sequence[str]) -> int:
    """Number of parameters in the named modules of a layer; what is named and not there has none."""
    modules = dict(layer.named_modules())
    return sum(_count_all(modules.get(name)) for name in names)


def _count_all(module: "nn.Module | None") -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
