"""Tensors of a GGUF file, from the weights of a pruned model.

Notation:
    D         width of the residual stream
    H, KV     query heads and KV groups of a layer
    head_dim  width of a head
    W         MLP width of a layer
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Layer
from prunecast.errors import ExportError
from prunecast.export.gguf.plan import Plan, WrittenLayer
from prunecast.export.gguf.rope import frequency_factors
from prunecast.export.gguf.targets import Target
from prunecast.export.huggingface import head_dim_of
from prunecast.models.families.family import Family
from prunecast.models.pruned.classes import stock_types

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

QUERY_NORM, KEY_NORM = "self_attn.q_norm", "self_attn.k_norm"
"""Norms of queries and keys whose weights all heads share, in every family that has them."""


def gguf_tensors(
    config: "PreTrainedConfig", family: Family, state: "Mapping[str, Tensor]", plan: Plan
) -> "Iterator[tuple[str, Tensor]]":
    """Names and float32 values of all tensors of a file.

    Args:
        config: config of the dense model.
        family: description of its family.
        state: weights of the pruned model under the stock names, sliced.
        plan: contents of the file.

    Raises:
        ExportError: llama.cpp has no place for one of the weights.
    """
    import gguf

    target = plan.target
    architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == target.name)
    names = gguf.get_tensor_name_map(architecture, len(plan.layers))

    def named(stock: str) -> str:
        name: str | None = names.get_name(stock, (".weight", ".bias"))
        if name is None or (name.endswith(".bias") and name.split(".")[-2] not in target.biases):
            raise ExportError(
                f"llama.cpp's {target.name!r} has no place for {stock}: choose a compensation without biases, or "
                "another target"
            )
        return name

    tied = set(stock_types(config)[1]._tied_weights_keys or ()) if config.tie_word_embeddings else set()
    for name, tensor in state.items():
        if not name.startswith(f"{family.layers}.") and name not in tied:
            yield named(name), _shifted(name, _values(tensor), target)
    factors = frequency_factors(config, target)
    if factors is not None:
        yield "rope_freqs.weight", factors
    by_layer = _by_layer(state, family)
    for number, layer in enumerate(plan.layers):
        weights = _layer(by_layer.get(layer.index, {}), layer, config, family, plan)
        for name, tensor in weights.items():
            yield named(f"{family.layers}.{number}.{name}"), tensor


def _values(tensor: "Tensor") -> "Tensor":
    return tensor.detach().cpu().float()


def _by_layer(state: "Mapping[str, Tensor]", family: Family) -> "dict[int, dict[str, Tensor]]":
    """Weights by the index of the layer, and by their name in it."""
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith(f"{family.layers}."):
            index, _, rest = name.removeprefix(f"{family.layers}.").partition(".")
            layers.setdefault(int(index), {})[rest] = tensor
    return layers


def _layer(
    weights: "Mapping[str, Tensor]", layer: WrittenLayer, config: "PreTrainedConfig", family: Family, plan: Plan
) -> "dict[str, Tensor]":
    """Weights of one layer in the order and form of the target, by the stock name."""
    target, head_dim = plan.target, head_dim_of(config)
    own = {name: _shifted(name, _values(tensor), target) for name, tensor in weights.items()}
    if layer.written.kv_groups and not layer.kept.kv_groups:
        own |= _no_attention(config.hidden_size, head_dim, family, target)
    if not layer.kept.mlp_width:
        own |= _no_mlp(config.hidden_size, layer.written.mlp_width, family)
    own = {name: _widened(name, tensor, layer.written.mlp_width, family) for name, tensor in own.items()}
    if layer.written.kv_groups:
        _scale_queries(own, config, family, plan)
        if target.interleaved:
            _interleave(own, layer.written, family)
        if target.fused:
            own = _fused(own, family)
    return own


def _shifted(name: str, tensor: "Tensor", target: Target) -> "Tensor":
    return tensor + target.norm_offset if name.endswith("norm.weight") else tensor


def _no_attention(hidden: int, head_dim: int, family: Family, target: Target) -> "dict[str, Tensor]":
    """An attention of one head that adds nothing."""
    import torch

    weights = {f"{name}.weight": torch.zeros(head_dim, hidden) for name in (family.query, family.key, family.value)}
    weights[f"{family.output}.weight"] = torch.zeros(hidden, head_dim)
    weights |= {f"{name}.weight": torch.ones(hidden) for name in family.attention_norms}
    if target.head_norms:
        weights |= {f"{name}.weight": torch.ones(head_dim) for name in (QUERY_NORM, KEY_NORM)}
    if target.biases == frozenset({"attn_q", "attn_k", "attn_v"}):
        weights |= {f"{name}.bias": torch.zeros(head_dim) for name in (family.query, family.key, family.value)}
    return weights


def _no_mlp(hidden: int, width: int, family: Family) -> "dict[str, Tensor]":
    """An MLP that adds nothing."""
    import torch

    weights = {f"{name}.weight": torch.zeros(width, hidden) for name in (family.gate, family.up)}
    weights[f"{family.down}.weight"] = torch.zeros(hidden, width)
    return weights | {f"{name}.weight": torch.ones(hidden) for name in family.mlp_norms}


def _widened(name: str, tensor: "Tensor", width: int, family: Family) -> "Tensor":
    """A weight of the MLP with channels of zeros added, so that there are ``width``."""
    from torch.nn.functional import pad

    if name == f"{family.down}.weight":
        return pad(tensor, (0, width - tensor.shape[1]))
    if name.rpartition(".")[0] in (family.gate, family.up):
        missing = width - tensor.shape[0]
        return pad(tensor, (0, 0, 0, missing) if tensor.ndim == 2 else (0, missing))
    return tensor


def _scale_queries(own: "dict[str, Tensor]", config: "PreTrainedConfig", family: Family, plan: Plan) -> None:
    """Scale the queries so that llama.cpp's attention computes the same as the stock class."""
    untyped: Any = config
    wanted = getattr(untyped, "query_pre_attn_scalar", None)
    if wanted is None:
        return
    width = head_dim_of(config)
    if len(plan.layers) == plan.target.wide_at:
        width = config.hidden_size // plan.layers[0].written.query_heads
    if wanted != width:
        names = [QUERY_NORM] if plan.target.head_norms else [family.query]
        for name in (f"{each}.{kind}" for each in names for kind in ("weight", "bias")):
            if name in own:
                own[name] = own[name] * math.sqrt(width / wanted)


def _interleave(own: "dict[str, Tensor]", sizes: Layer, family: Family) -> None:
    """Reorder the rows of each head of queries and keys: row i of the first half, row i of the second, and so on."""
    for projection, heads in ((family.query, sizes.query_heads), (family.key, sizes.kv_groups)):
        for name in (f"{projection}.weight", f"{projection}.bias"):
            if name in own:
                rows = own[name].shape[0]
                halves = own[name].view(heads, 2, rows // heads // 2, -1).transpose(1, 2)
                own[name] = halves.reshape(own[name].shape)


def _fused(own: "dict[str, Tensor]", family: Family) -> "dict[str, Tensor]":
    """The weights with query, key and value as one tensor, under the name that GGUF maps it by."""
    import torch

    parts = [own.pop(f"{name}.weight") for name in (family.query, family.key, family.value)]
    return own | {"self_attn.qkv_proj.weight": torch.cat(parts)}
