"""EvoPress (arXiv 2410.14649): drop configurations of its depth pruning."""

import re
from pathlib import Path

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.formats.imported import Imported, checked, read_lines
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ConfigurationError
from prunecast.text import counted

_DROPPED = {
    "none": frozenset[str](),
    "attn": frozenset({"attn"}),
    "mlp": frozenset({"mlp"}),
    "attn+mlp": frozenset({"attn", "mlp"}),
}

_LEVEL = re.compile(r"\S+\s*:\s*-?\d+")


def from_evopress(path: Path, shape: ModelShape) -> Imported:
    """The architecture of a drop configuration: one line per layer, ``none``, ``attn``, ``mlp`` or ``attn+mlp``.

    The ``MODULE: LEVEL`` files of EvoPress's sparsity and quantization searches are refused: they set the sparsity or
    the bit width of each module, not its size.

    Raises:
        ConfigurationError: the file cannot be read, is a ``MODULE: LEVEL`` file, or is not for this model.
    """
    lines = [line for line in read_lines(path) if line]
    if lines and all(_LEVEL.fullmatch(line) for line in lines):
        raise ConfigurationError(
            f"{path}: holds sparsity or bit levels of modules, which do not change sizes; name a drop configuration"
        )
    for number, line in enumerate(lines, start=1):
        if line not in _DROPPED:
            raise ConfigurationError(f"{path}:{number}: {line[:40]!r} must be one of {', '.join(_DROPPED)}")
    if len(lines) != len(shape.dense.layers):
        raise ConfigurationError(
            f"{path}: {counted(len(lines), 'line')}, the model has {counted(len(shape.dense.layers), 'layer')}; "
            "name the model the file was made for"
        )
    layers = [_without(full, _DROPPED[line]) for full, line in zip(shape.dense.layers, lines, strict=True)]
    return Imported([checked(Architecture(layers), shape, str(path))])


def _without(layer: Layer, dropped: frozenset[str]) -> Layer:
    groups, heads, width = layer
    return Layer(*((0, 0) if "attn" in dropped else (groups, heads)), 0 if "mlp" in dropped else width)
