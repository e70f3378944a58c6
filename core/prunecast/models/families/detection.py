"""Detection of a family that no file describes: from a config alone, without weights and without a tokenizer.

A small model of the config's class, with random weights, runs once. What each module reads tells its place
(:mod:`prunecast.models.families.placing`), derivatives tell what its rows are
(:mod:`prunecast.models.families.rows`), and trials with fewer heads what has to follow
(:mod:`prunecast.models.families.following`). What has no place is refused by name.
"""

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from prunecast.errors import ModelError, one_line
from prunecast.models.families.cuts import CutTrial, arguments_of_heads
from prunecast.models.families.dataflow import Flow, LayerFlow
from prunecast.models.families.family import EXPORTED, Family
from prunecast.models.families.following import following
from prunecast.models.families.head import head_of
from prunecast.models.families.layer_parts import layers_of
from prunecast.models.families.placing import PlacedLayer
from prunecast.models.families.quiet import quiet_transformers
from prunecast.models.families.refusals import check_describable, refusal
from prunecast.models.families.rows import AttentionRows, Role, attention_rows, channel_rows
from prunecast.models.families.size_fields import groups_field, heads_field, width_field
from prunecast.models.families.sizes import model_without_weights
from prunecast.models.families.small import dense_config, small

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def detect(config: "PreTrainedConfig") -> Family:
    """The description of the family of a config, settled for it, found from the forward pass of its stock class.

    Whether its models need a beginning-of-sequence token cannot be seen: ``bos`` is False.

    Args:
        config: the config of a causal language model, or of an export of one; it is not changed.

    Raises:
        ModelError: the family cannot be described, or not without doubt, or the losses of its models cannot be
            measured; the message says why.
    """
    dense = dense_config(config) if config.model_type.startswith(EXPORTED) else config
    key = type(dense), dense.to_json_string(use_diff=False)
    if key not in _detected:
        check_describable(dense)
        made = small(dense)
        try:
            detection = _Detection(dense, made)
            family = detection.family()
        except ModelError as error:
            raise refusal(dense, str(error), ", or describe its family in a file (model.family)") from error
        try:
            head_of(detection.model)
        except ModelError as error:
            raise refusal(dense, str(error)) from error
        _detected[key] = family
    return _detected[key]


_detected: dict[tuple[type, str], Family] = {}
"""Families that this process has detected, by class and content of the config."""


class _Detection:
    """The detection of one family.

    Args:
        config: config of the model.
        made: a small config of its class.

    Attributes:
        model: the small model.
    """

    def __init__(self, config: "PreTrainedConfig", made: "PreTrainedConfig") -> None:
        self._config = config
        self.model = random_model(made)
        self._layers = _path_of_layers(self.model)
        heads = made.num_attention_heads
        self._shape = (4 * heads + 1, 2 * heads + 1)  # no multiple of the number of heads
        generator = torch.Generator().manual_seed(0)
        self._ids = torch.randint(3, made.vocab_size, self._shape, generator=generator)

    def family(self) -> Family:
        """The description."""
        flow = self._flow()
        placed = [PlacedLayer(flow, layer, self._shape) for layer in flow.layers]
        bypassed = sorted({name for layer in placed for name in layer.norms.inner})
        plain = self._flow(bypassed)
        read = [self._described(*pair) for pair in zip(placed, plain.layers, strict=True)]
        family = _agreed([found for found, _ in read], self.model.get_submodule(self._layers))
        trials = [
            CutTrial(self.model, self._layers, self._ids, bypassed, index, family, rows)
            for index, (_, rows) in enumerate(read)
        ]
        big = list(layers_of(model_without_weights(self._config), family))
        if len(widths := sorted({parts.head_dim for parts in big if parts.sizes.kv_groups})) > 1:
            raise ModelError(f"its layers have heads of different widths, {' and '.join(map(str, widths))}")
        return replace(family, follows=following(family, trials, big))

    def _flow(self, bypassed: list[str] | None = None) -> Flow:
        try:
            return Flow(self.model, self._layers, self._ids, bypassed or ())
        except ModelError:
            raise
        # A forward pass of code that is not known raises anything.
        except Exception as error:
            raise ModelError(f"its small model does not run ({one_line(error)})") from error

    def _described(self, layer: PlacedLayer, plain: LayerFlow) -> tuple[Family, AttentionRows]:
        """Description of one layer, and the rows of its attention."""
        attention, mlp = layer.attention, layer.mlp
        rows = attention_rows(plain, attention.writer, attention.readers, self._shape)
        channels = channel_rows(plain, mlp.writer, mlp.readers)
        parts = {part: name for name, parts in channels.items() for part in parts}
        query, key, value = rows.owner("query"), rows.owner("key"), rows.owner("value")
        norms = _norms_of_heads(layer, plain, rows)
        return Family(
            name=self._config.model_type,
            layers=self._layers,
            attention=attention.modules[0],
            mlp=mlp.modules,
            query=query,
            key=key,
            value=value,
            output=attention.writer,
            fused=rows.fused,
            gate=parts.get("gate"),
            up=parts["up"],
            down=mlp.writer,
            query_norm=norms.get("query"),
            key_norm=norms.get("key"),
            attention_norms=layer.norms.attention,
            mlp_norms=layer.norms.mlp,
            shared_norms=layer.norms.shared,
            lasting=layer.norms.lasting,
            adds_residual=layer.adds_residual,
            per_head=arguments_of_heads(plain, attention.modules[0], rows.heads),
            heads_attribute=heads_field(self.model.config, rows),
            groups_attribute=groups_field(self.model.config, rows),
            width_attribute=width_field(
                self.model.config, plain.input(mlp.writer).shape[-1], f"{plain.name}.{mlp.writer}"
            ),
            follows={},
        ), rows


def random_model(config: "PreTrainedConfig") -> "PreTrainedModel":
    """A model in float32 and evaluation mode, with random weights of which none has no effect."""
    from transformers import AutoModelForCausalLM

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), quiet_transformers():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, attn_implementation="eager", trust_remote_code=False
        )
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in model.named_parameters():
        if parameter.numel() > 1:  # not that of an activation
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 1.0 if id(parameter) in embeddings else 1 / math.sqrt(parameter.shape[-1])
            norm = parameter.ndim == 1 and not name.endswith("bias")
            parameter.data = 1 + 0.2 * noise if norm else noise * scale
    model.train(False)
    return model


def _path_of_layers(model: "PreTrainedModel") -> str:
    """Path of the list of decoder layers. Raises ModelError if there is none, or more than one."""
    count: int = model.config.num_hidden_layers
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and next(module.parameters(), None) is not None
    ]
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if len(outer) != 1:
        found = f"may be {' or '.join(outer)}" if outer else "is none that it has"
        raise ModelError(f"the list of its {count} layers {found}")
    path: str = outer[0]
    return path


def _norms_of_heads(layer: PlacedLayer, plain: LayerFlow, rows: AttentionRows) -> dict[Role, str]:
    """Norms of queries and keys whose weights belong to single heads. Raises ModelError if those of another norm do."""
    prefix = f"{layer.attention.modules[0]}."
    found: dict[Role, str] = {}
    for node, sources in layer.norms.inner.items():
        name = prefix + node.removeprefix(prefix).split(".")[0]  # of all of its norms, if it has one for each head
        named = plain.layer.get_submodule(name).named_parameters()
        weights = sum(weight.numel() for key, weight in named if key.endswith("weight"))
        normalised = [row for source in sources for row in rows.rows[source]]
        (role, *others) = {row.role for row in normalised}
        if weights in (0, rows.head_dim) and plain.input(node).shape[-1] == rows.head_dim:
            continue  # the same for all heads
        if others or role == "value" or weights != len(normalised):
            raise ModelError(
                f"{plain.name}.{name} is a norm over heads, and neither of their queries nor of their keys"
            )
        found[role] = name
    return found


def _agreed(families: list[Family], stack: nn.Module) -> Family:
    """The description of all layers of a list. Raises ModelError if there is none.

    A norm may be missing in some layers, if a module without parameters is in its place.
    """
    norms: dict[str, Any] = {part: _united(part, families) for part in ("attention_norms", "mlp_norms", "shared_norms")}
    agreed = [replace(family, **norms) for family in families]
    for index, (one, layer) in enumerate(zip(agreed, stack.children(), strict=True)):
        differing = [part.name for part in fields(Family) if getattr(one, part.name) != getattr(agreed[0], part.name)]
        missing = {name for names in norms.values() for name in names} - {name for name, _ in layer.named_modules()}
        if differing or missing:
            what = f"{differing[0]}: {getattr(one, differing[0])!r}" if differing else f"{missing.pop()}: none"
            raise ModelError(f"layer {index} is not like layer 0 in {what}")
    named = [name for names in norms.values() for name in names]
    if twice := [name for name in named if named.count(name) > 1]:
        raise ModelError(f"{twice[0]} is needed by one component in some layers, and by another or both in others")
    return agreed[0]


def _united(part: str, families: list[Family]) -> tuple[str, ...]:
    """Names in a field of any of several descriptions, in order."""
    return tuple(dict.fromkeys(name for family in families for name in getattr(family, part)))
