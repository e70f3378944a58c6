"""Detection of a family that no file describes: from a config alone, without weights and without a tokenizer.

A small model of the config's class, with random weights, runs once. What each module reads tells its place
(:mod:`prunecast.models.families.placing`), derivatives tell what its rows are
(:mod:`prunecast.models.families.rows`), and trials with fewer heads what has to follow
(:mod:`prunecast.models.families.cuts`). What has no place is refused by name.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunecast.errors import ModelError, one_line
from prunecast.models.families.cuts import CutTrial, arguments_of_heads, sizes_of
from prunecast.models.families.dataflow import Flow, LayerFlow
from prunecast.models.families.family import Family, SizeName
from prunecast.models.families.layer_parts import layers_of
from prunecast.models.families.placing import PlacedLayer
from prunecast.models.families.refusals import check_describable, refusal
from prunecast.models.families.rows import AttentionRows, attention_rows, channel_rows
from prunecast.models.families.sizes import model_without_weights
from prunecast.models.families.small import small

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
_GROUPS = ("num_key_value_heads", "num_kv_heads", "kv_heads")
_WIDTH = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "dim_ff", "dff", "d_ff")
"""Usual names of the sizes in a config, the most usual ones first."""


def detect(config: "PreTrainedConfig") -> Family:
    """The description of the family of a config, settled for it, found from the forward pass of its stock class.

    Whether its models need a beginning-of-sequence token cannot be seen: ``bos`` is False.

    Args:
        config: the config of a causal language model; it is not changed.

    Raises:
        ModelError: the family cannot be described, or not without doubt; the message says why.
    """
    check_describable(config)
    made = small(config)
    try:
        return _Detection(config, made).family()
    except ModelError as error:
        raise refusal(config, one_line(error)) from error


class _Detection:
    """The detection of one family.

    Args:
        config: config of the model.
        made: a small config of its class.
    """

    def __init__(self, config: "PreTrainedConfig", made: "PreTrainedConfig") -> None:
        self._config = config
        self._model = random_model(made)
        self._layers = _path_of_layers(self._model)
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
        family = _agreed([found for found, _ in read], self._model.get_submodule(self._layers))
        trials = [
            CutTrial(
                model=self._model,
                layers=self._layers,
                ids=self._ids,
                bypassed=bypassed,
                index=index,
                attention=family.attention,
                output=family.output,
                rows=rows,
                per_head=family.per_head,
            )
            for index, (_, rows) in enumerate(read)
        ]
        return replace(family, follows=self._follows(family, trials))

    def _flow(self, bypassed: list[str] | None = None) -> Flow:
        try:
            return Flow(self._model, self._layers, self._ids, bypassed or ())
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
        query_norm, key_norm = (_norm_of_heads(layer, plain, name, rows) for name in (query, key))
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
            query_norm=query_norm,
            key_norm=key_norm,
            attention_norms=layer.norms.attention,
            mlp_norms=layer.norms.mlp,
            shared_norms=layer.norms.shared,
            lasting=layer.norms.lasting,
            adds_residual=layer.adds_residual,
            per_head=arguments_of_heads(plain, attention.modules[0], rows.heads),
            heads_attribute=self._attribute("query heads", _HEADS, rows.heads),
            groups_attribute=self._groups_attribute(rows),
            width_attribute=self._width_attribute(plain.input(mlp.writer).shape[-1]),
            follows={},
        ), rows

    def _attribute(self, what: str, names: tuple[str, ...], size: int) -> str:
        """Field of the config that holds a size."""
        config: Any = self._model.config
        usual = [name for name in _stored(config, names) if getattr(config, name) == size]
        if usual:
            return usual[0]
        found = [name for name, value in vars(config).items() if type(value) is int and value == size]
        if len(found) != 1:
            listed = " or ".join(found) or "none of its fields"
            raise ModelError(f"the number of {what} may be in {listed} of {type(config).__name__}")
        return found[0]

    def _groups_attribute(self, rows: AttentionRows) -> str | None:
        usual = _stored(self._model.config, _GROUPS)
        if usual:
            return usual[0]
        return None if rows.groups == rows.heads else _GROUPS[0]

    def _width_attribute(self, width: int) -> str:
        config: Any = self._model.config
        usual = _stored(config, _WIDTH)
        same = [name for name in usual if getattr(config, name) == width]
        return (same or usual or [_WIDTH[0]])[0]

    def _follows(self, family: Family, trials: list[CutTrial]) -> dict[str, SizeName]:
        """Attributes of the attention that its forward pass depends on. Raises ModelError if they are not found."""
        with_heads = [trial for trial in trials if trial.rows.heads > 1]
        for follows in self._readings(family, trials):
            if all(trial.succeeds(follows) for trial in with_heads):
                return follows
        raise ModelError(f"{self._layers}.*.{family.attention} does not work with fewer heads, whatever follows them")

    def _readings(self, family: Family, trials: list[CutTrial]) -> Iterator[dict[str, SizeName]]:
        """Possible attributes that follow: those of the right numbers, in the small model and in the big one."""
        options = self._options(family, trials)
        fields_of_config = _fields_of_heads(family)
        for of_config in fields_of_config:
            for chosen in product(*options.values()):
                yield {name: size for name, size in zip(options, chosen, strict=True) if size} | of_config

    def _options(self, family: Family, trials: list[CutTrial]) -> dict[str, list[SizeName | None]]:
        """Sizes that each attribute of the attention may follow; None if it may follow none of them."""
        found: dict[str, set[SizeName]] = {}
        for module, sizes in self._attentions(family, trials):
            here = {
                name: {size for size, number in sizes.items() if number == value and number > 1}
                for name, value in vars(module).items()
                if type(value) is int and not name.startswith("_")
            }
            found = here if not found else {name: found[name] & here.get(name, set()) for name in found}
        width = self._model.config.hidden_size
        attention = self._model.get_submodule(f"{self._layers}.0.{family.attention}")
        options: dict[str, list[SizeName | None]] = {}
        for name, sizes in sorted(found.items()):
            likely: list[SizeName | None] = sorted(sizes, key=lambda size: _unlike(name, size))
            if {"query_heads", "kv_groups"} <= sizes and trials[0].rows.heads == trials[0].rows.groups:
                likely = likely[:1]  # the same number, always
            if likely:
                options[name] = [None, *likely] if getattr(attention, name) == width else likely
        return options

    def _attentions(self, family: Family, trials: list[CutTrial]) -> Iterator[tuple[nn.Module, dict[SizeName, int]]]:
        """Attention modules of the small model and of the big one, with their sizes."""
        for trial in trials:
            yield self._model.get_submodule(f"{self._layers}.{trial.index}.{family.attention}"), trial.sizes
        for parts in layers_of(model_without_weights(self._config), family):
            yield parts.attention, sizes_of(parts.sizes.kv_groups, parts.sizes.heads_per_group, parts.head_dim)


def random_model(config: "PreTrainedConfig") -> "PreTrainedModel":
    """A model in float32 and evaluation mode, with random weights of which none has no effect."""
    from transformers import AutoModelForCausalLM

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
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
    return model.eval()


def _path_of_layers(model: "PreTrainedModel") -> str:
    """Path of the list of decoder layers. Raises ModelError if there is none, or more than one."""
    count = model.config.num_hidden_layers
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and next(module.parameters(), None) is not None
    ]
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if len(outer) != 1:
        found = f"may be {' or '.join(outer)}" if outer else "is none that it has"
        raise ModelError(f"the list of its {count} layers {found}")
    return outer[0]


def _norm_of_heads(layer: PlacedLayer, plain: LayerFlow, projection: str, rows: AttentionRows) -> str | None:
    """Norm of the queries or keys of a projection, if its weights belong to single heads."""
    attention = layer.attention.modules[0]
    inner = [name for name, sources in layer.norms.inner.items() if sources == {projection}]
    for name in {f"{attention}.{name.removeprefix(f'{attention}.').split('.')[0]}" for name in inner}:
        norm = plain.layer.get_submodule(name)
        weights = sum(weight.numel() for key, weight in norm.named_parameters() if key.endswith("weight"))
        if weights in (0, rows.head_dim):
            continue
        own = len({row for row in rows.rows[projection]}) * rows.head_dim
        if weights == own and len({row.role for row in rows.rows[projection]}) == 1:
            return name
        raise ModelError(f"{plain.name}.{name} has {weights} weights: neither one for a row nor shared by all heads")
    return None


def _stored(config: Any, names: tuple[str, ...]) -> list[str]:
    """Those of the names under which a config holds a value, as it names them itself."""
    own = dict.fromkeys(config.attribute_map.get(name, name) for name in names)
    return [name for name in own if name in vars(config)]


def _unlike(name: str, size: SizeName) -> tuple[bool, str]:
    """Sorts sizes for an attribute: those that its name suggests first."""
    hints: dict[SizeName, bool] = {
        "heads_per_group": "group" in name,
        "kv_groups": ("kv" in name or "key_value" in name) and "group" not in name,
        "query_heads": "head" in name,
        "query_width": True,
    }
    return not hints[size], size


def _fields_of_heads(family: Family) -> list[dict[str, SizeName]]:
    """Fields of the config that an attention may read instead of attributes of its own: none, or the heads, or both."""
    found: list[dict[str, SizeName]] = [{}]
    for heads, groups in dict.fromkeys(
        [("num_attention_heads", "num_key_value_heads"), (family.heads_attribute, family.groups_attribute)]
    ):
        found.append({f"config.{heads}": "query_heads"})
        if groups:
            found.append({f"config.{heads}": "query_heads", f"config.{groups}": "kv_groups"})
    return found


def _agreed(families: list[Family], stack: nn.Module) -> Family:
    """The description of all layers of a list. Raises ModelError if there is none.

    A norm may be missing in some layers, if a module without parameters is in its place.
    """
    norms = {part: _united(part, families) for part in ("attention_norms", "mlp_norms", "shared_norms")}
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
