"""DarwinLM (arXiv 2502.07780): level files of its structured search."""

import re
from collections.abc import Sequence
from pathlib import Path

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.formats.imported import Imported, checked, read_lines
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ConfigurationError

_LINE = re.compile(r"[\w.]*?layers\.(?P<layer>\d+)\.(?P<part>self_attn\.o_proj|mlp\.down_proj): *(?P<level>\d+)")


def from_darwinlm(
    path: Path, shape: ModelShape, removed_attention: Sequence[int], removed_mlp: Sequence[int]
) -> Imported:
    """The architecture of a level file: ``model.layers.0.self_attn.o_proj: LEVEL`` or ``...mlp.down_proj: LEVEL``.

    Modules without a line keep everything.

    A level is a place in the lists its database was made with: how many input columns of ``o_proj`` and of
    ``down_proj`` are gone. The file does not say which query heads were removed, only how many; they are laid out over
    as many whole KV groups as give exactly that count.

    Args:
        path: the file.
        shape: the dense model.
        removed_attention: ``--cols_removed_attn`` of the database, level 0 first.
        removed_mlp: ``--cols_removed_mlp`` of the database, level 0 first.

    Raises:
        ConfigurationError: the file cannot be read, a line is no level, a level is in neither list, or the columns
            come to no whole heads or to none that KV groups of equal size can hold.
    """
    layers = list(shape.dense.layers)
    for number, line in enumerate(read_lines(path), start=1):
        if not line:
            continue
        where = f"{path}:{number}"
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigurationError(
                f"{where}: {line[:60]!r} is no level: write model.layers.N.self_attn.o_proj: LEVEL, or mlp.down_proj"
            )
        layer, level = int(match["layer"]), int(match["level"])
        if layer >= len(layers):
            raise ConfigurationError(f"{where}: layer {layer}, the model has {len(layers)}; name the model it is of")
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
        raise ConfigurationError(f"{where}: level {level}, {option} names {len(columns)} levels; give all of them")
    return columns[level]


def _attention(dense: Layer, removed: int, head_dim: int, where: str) -> tuple[int, int]:
    """KV groups and heads per group that keep all but ``removed`` columns."""
    if removed % head_dim:
        raise ConfigurationError(f"{where}: {removed} columns are no whole heads of size {head_dim}")
    kept = max(dense.query_heads - removed // head_dim, 0)
    fitting = [
        (g, kept // g) for g in range(dense.kv_groups, 0, -1) if kept % g == 0 and kept // g <= dense.heads_per_group
    ]
    if not fitting:
        raise ConfigurationError(
            f"{where}: {kept} query heads cannot be held by equal KV groups of at most "
            f"{dense.kv_groups} x {dense.heads_per_group}; measure a neighbouring level"
        )
    return fitting[0] if kept else (0, 0)
