"""The description of a family of models, as data: the modules of a decoder layer, and what its forward pass needs.

The forward pass remains that of the stock classes of transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict

from prunecast.architecture.architecture import Layer
from prunecast.architecture.choices import Component

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

EXPORTED = "prunecast-"
"""Beginning of the model types of exports, whose layers have sizes of their own."""

SizeName = Literal["kv_groups", "query_heads", "heads_per_group", "query_width"]
"""Name of a size that an attribute of an attention module can depend on.

``query_width`` is query heads x width of a head.
"""


@dataclass(frozen=True)
class Variant:
    """A difference within a family that depends on the config.

    Attributes:
        when: attributes of the config, each with the value, or the list of values, that it has in this variant.
        change: fields of :class:`Family` that differ, with their values.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    when: Mapping[str, Any]
    change: Mapping[str, Any]

    def is_of(self, config: "PreTrainedConfig") -> bool:
        """True if a config is of this variant."""
        return all(
            getattr(config, name, None) in (values if isinstance(values, list) else [values])
            for name, values in self.when.items()
        )


@dataclass(frozen=True)
class Family:
    """Locations of the parts of one decoder layer. Names of modules are relative to the layer.

    A module named for several of query, key and value, or for gate and up, is fused. Projections are ``nn.Linear`` or
    ``Conv1D``.

    Attributes:
        name: the ``model_type`` of the transformers config.
        layers: path of the list of layers in the causal language model.
        attention: the attention module.
        mlp: modules removed with the MLP: its module, or its projections if they are directly in the layer.
        query, key, value, output: projections of the attention.
        fused: order of the rows of a module that is query, key and value at once: ``stack``, all queries, all keys, all
            values; or ``groups``, group by group the queries, the key and the value (with one query head a group, head
            by head). Gate and up are always in a stack.
        gate, up, down: projections of the MLP; a channel is a row of ``gate`` and ``up``, a column of ``down``.
            ``gate`` is None if there is no such projection.
        query_norm, key_norm: norms of queries and keys whose weights belong to heads and groups, with one weight a row
            of the projection, or one module a head in a list. None for no such norm; a norm whose weights all heads
            share needs no name. A model of the family need not have them.
        attention_norms, mlp_norms: norms of the layer that only this component needs, removed with all of it.
        shared_norms: norms that both components need, removed with the last of them.
        lasting: modules of the layer that remain even if both components are removed.
        adds_residual: components whose module adds the residual stream, its second argument, to its output itself.
        per_head: arguments of the attention's forward pass that hold something for each query head, as ALiBi does: of
            shape (H, ...), (B x H, ...) or (B, H, ...).
        heads_attribute, groups_attribute, width_attribute: attributes of the config with the number of query heads, the
            number of KV groups and the MLP width; None for the groups if every query head has its own.
        follows: attributes of the attention module that its forward pass depends on, each with the name of the size it
            is set to. ``config.NAME`` is an attribute of the config as read by this attention module alone.
        bos: True if its models need a beginning-of-sequence token in front of every text: all were trained with it.
        variants: differences within the family that depend on the config.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    name: str
    layers: str = "model.layers"
    attention: str = "self_attn"
    mlp: tuple[str, ...] = ("mlp",)
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"
    fused: Literal["stack", "groups"] = "stack"
    gate: str | None = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    query_norm: str | None = None
    key_norm: str | None = None
    attention_norms: tuple[str, ...] = ("input_layernorm",)
    mlp_norms: tuple[str, ...] = ("post_attention_layernorm",)
    shared_norms: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    adds_residual: tuple[Component, ...] = ()
    per_head: tuple[str, ...] = ()
    heads_attribute: str = "num_attention_heads"
    groups_attribute: str | None = "num_key_value_heads"
    width_attribute: str = "intermediate_size"
    follows: Mapping[str, SizeName] = field(
        default_factory=lambda: {"num_key_value_groups": "heads_per_group"}, hash=False
    )
    bos: bool = False
    variants: tuple[Variant, ...] = field(default=(), hash=False)

    @property
    def outputs(self) -> Mapping[Component, str]:
        """Projections of the components back into the residual stream."""
        return {"attention": self.output, "mlp": self.down}

    def entries_of(self, layer: Layer) -> dict[str, int]:
        """Entries of a config with the sizes of a layer, by the names of their attributes."""
        sizes = {self.heads_attribute: layer.query_heads, self.width_attribute: layer.mlp_width}
        return sizes if self.groups_attribute is None else sizes | {self.groups_attribute: layer.kv_groups}

    def settled(self, config: "PreTrainedConfig") -> "Family":
        """The description of the models of a config: with its variants, and without those of other configs."""
        family = self
        for variant in self.variants:
            if variant.is_of(config):
                family = replace(family, **variant.change)
        return replace(family, variants=())
