"""Puzzletron (arXiv 2411.19146) and the Llama-Nemotron models built with it: ``block_configs``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.formats.imported import Imported, checked, read_lines
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ConfigurationError
from prunecast.text import counted

_UNSUPPORTED = ("replace_with_linear", "moe", "mamba", "llama4", "parallel_blocks")
_FFN_MULTIPLE = 256


def from_puzzletron(path: Path, shape: ModelShape) -> Imported:
    """Architectures of a ``config.json`` or solution file: ``block_configs``, or a list of several of them.

    A block has ``attention`` and ``ffn``, or a list ``subblock_configs`` whose entries have a ``kind``. Attention is
    ``no_op``, or has ``num_kv_heads`` and ``num_query_heads``, ``num_key_value_heads`` or ``n_heads_in_group``; the MLP
    is ``no_op``, or has ``intermediate_size`` or ``ffn_mult`` (width 2/3 of it times the hidden size, rounded up to a
    multiple of 256).

    Puzzletron can merge KV heads and keep all query heads. Pruning cannot express that: such a layer is read as one
    that loses the query heads of its removed KV heads too, and a note reports it.

    Raises:
        ConfigurationError: the file cannot be read or has no block configs, the number of blocks differs from the
            model's layers, or a block is not attention and MLP of the model, e.g. a linear replacement or experts.
    """
    text = "\n".join(read_lines(path))
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); name a config.json") from error
    solutions = _solutions(content)
    if not solutions:
        raise ConfigurationError(f"{path}: has no block_configs; name a config.json or solution file of Puzzletron")
    found, merged = [], 0
    for number, blocks in enumerate(solutions):
        if len(blocks) != len(shape.dense.layers):
            raise ConfigurationError(
                f"{path}: {counted(len(blocks), 'block')}, the model has {counted(len(shape.dense.layers), 'layer')}; "
                "name the model the file was made for"
            )
        layers = []
        for index, (block, dense) in enumerate(zip(blocks, shape.dense.layers, strict=True)):
            layer, fewer = _layer(block, dense, shape.hidden_size, f"{path}: solution {number}, block {index}")
            merged += fewer
            layers.append(layer)
        found.append(checked(Architecture(layers), shape, f"{path}: solution {number}"))
    note = f"{counted(merged, 'layer')} with all query heads over merged KV heads; read as whole KV groups pruned"
    return Imported(list(dict.fromkeys(found)), (note,) if merged else ())


def _solutions(content: Any) -> list[list[Mapping[str, Any]]]:
    """Block lists of the file: a single one, or one for each entry of a list of solutions."""
    if isinstance(content, Mapping):
        blocks = content.get("block_configs")
        return [blocks] if isinstance(blocks, list) and blocks else []
    if not isinstance(content, list) or not content:
        return []
    if all(isinstance(entry, Mapping) and "block_configs" not in entry for entry in content):
        return [content]
    return [blocks for entry in content for blocks in _solutions(entry)]


def _layer(block: Mapping[str, Any], dense: Layer, hidden_size: int, where: str) -> tuple[Layer, bool]:
    """Layer of a block, and True if its KV heads were merged."""
    try:
        attention, ffn = _parts(block, where)
        groups, heads, merged = _attention(attention, dense)
        layer = Layer(groups, heads, _width(ffn, hidden_size, dense))
        if min(layer) < 0:
            raise ValueError(f"a size of {min(layer)}")
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigurationError(
            f"{where}: cannot be read as attention and ffn of the model ({error}); name the model the file was made for"
        ) from error
    return layer, merged


def _parts(block: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Attention and MLP of a block; one that is missing from the block counts as removed."""
    absent: Mapping[str, Any] = {"no_op": True}
    if "subblock_configs" in block:
        kinds = {str(part.get("kind")): part for part in block["subblock_configs"]}
    else:
        kinds = {str(kind): part for kind, part in block.items() if isinstance(part, Mapping)}
    unsupported = [kind for kind in kinds if kind not in ("attention", "ffn")]
    unsupported += [name for part in (block, *kinds.values()) for name in _UNSUPPORTED if part.get(name)]
    if unsupported:
        raise ConfigurationError(
            f"{where}: {unsupported[0]} is not supported; name a file whose blocks have attention and ffn only"
        )
    return kinds.get("attention") or absent, kinds.get("ffn") or absent


def _attention(part: Mapping[str, Any], dense: Layer) -> tuple[int, int, bool]:
    """KV groups, heads per group, and True if KV heads were merged."""
    if part.get("no_op"):
        return 0, 0, False
    groups = part.get("num_kv_heads") or part.get("num_key_value_heads")
    if groups is None and part.get("n_heads_in_group"):
        groups = dense.query_heads // int(part["n_heads_in_group"])
    groups = dense.kv_groups if groups is None else int(groups)
    heads = int(part.get("num_query_heads") or dense.query_heads) // groups
    return groups, min(heads, dense.heads_per_group), heads > dense.heads_per_group


def _width(part: Mapping[str, Any], hidden_size: int, dense: Layer) -> int:
    if part.get("no_op"):
        return 0
    if part.get("intermediate_size") is not None:
        return int(part["intermediate_size"])
    if part.get("ffn_mult") is None:
        return dense.mlp_width
    return -(-int(2 * part["ffn_mult"] * hidden_size / 3) // _FFN_MULTIPLE) * _FFN_MULTIPLE
