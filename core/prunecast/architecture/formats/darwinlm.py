"""DarwinLM (arXiv 2502.07780): level files of its structured search."""

import re
from collections.abc import Sequence
from pathlib import Path

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.formats.imported import Imported, checked, read_lines
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ConfigurationError
from prunecast.text import counted

_LINE = re.compile(r"[\w.]*?layers\.(?P<layer>\d+)\.(?P<part>self_attn\.o_proj|mlp\.down_proj): *(?P<level>\d+)")


def from_darwinlm(
    path: Path, shape: ModelShape, removed_attention: Sequence[int], removed_mlp: Sequence[int]
) -> Imported:
    """The architecture of a level file: ``model.layers.0.self_attn.o_proj: LEVEL`` or ``...mlp.down_proj: LEVEL``.

    Modules without a line are not pruned.

    A level is an index into the lists that the level database was built with, of the number of input columns removed
    from ``o_proj`` and from ``down_proj``. The file contains the number of removed query heads, not which ones; the
    kept heads are placed in the largest number of KV groups that gives exactly that count with groups of equal size.

    Args:
        path: the level file.
        shape: sizes of the dense model.
        removed_attention: removed columns per level, ``--cols_removed_attn`` of the database, level 0 first.
        removed_mlp: removed columns per level, ``--cols_removed_mlp`` of the database, level 0 first.

    Raises:
        ConfigurationError: the file cannot be read, a line does not set a level, a layer or level is out of range, the
            columns are not whole heads, or no KV groups of equal size hold the kept heads.
    """
    layers = list(shape.dense.layers)
    for number, line in enumerate(read_lines(path), start=1):
        if not line:
            continue
        where = f"{path}:{number}"
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigurationError(
                f"{where}: {line[:60]!r} is not a level: write model.layers.N.self_attn.o_proj: LEVEL, or mlp.down_proj"
            )
        layer, level = int(match["layer"]), int(match["level"])
        if layer >= len(layers):
            raise ConfigurationError(
                f"{where}: no layer {layer}, the model has layers 0 to {len(layers) - 1}; "
                "name the model the file was made for"
            )
        if match["part"] == "mlp.down_proj":
            width = layers[layer].mlp_width - _removed(removed_mlp, level, "--cols-removed-mlp", where)
            layers[layer] = layers[layer]._replace(mlp_width=max(width, 0))
        else:
            columns = _removed(removed_attention, level, "--cols-removed-attn", where)
            groups, heads = _attention(shape.dense.layers[layer], columns, shape.head_dim, where)
            layers[layer] = layers[layer]._replace(kv_groups=groups, heads_per_group=heads)
    return Imported([checked(Architecture(layers), shape, str(path))])


def _removed(columns: Sequence[int], level: int, option: str, where: str) -> int:
    if level >= len(columns):
        raise ConfigurationError(
            f"{where}: level {level} is out of range, {option} lists {counted(len(columns), 'level')}; list all, "
            "level 0 first"
        )
    return columns[level]


def _attention(dense: Layer, removed: int, head_dim: int, where: str) -> tuple[int, int]:
    """KV groups and heads per group of a layer with ``removed`` columns of ``o_proj`` pruned."""
    if removed % head_dim:
        raise ConfigurationError(
            f"{where}: {removed} columns are not a multiple of the head dimension {head_dim}; check --cols-removed-attn"
        )
    kept = max(dense.query_heads - removed // head_dim, 0)
    fitting = [
        (g, kept // g) for g in range(dense.kv_groups, 0, -1) if kept % g == 0 and kept // g <= dense.heads_per_group
    ]
    if not fitting:
        raise ConfigurationError(
            f"{where}: {kept} query heads do not fit equal KV groups, at most "
            f"{dense.kv_groups} groups of {dense.heads_per_group} heads; use a neighbouring level"
        )
    return fitting[0] if kept else (0, 0)
