"""Result of an importer, and the checks that all importers share."""

from dataclasses import dataclass
from pathlib import Path

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ConfigurationError
from prunecast.text import counted


@dataclass(frozen=True)
class Imported:
    """Architectures read from a file.

    Attributes:
        architectures: at least one, in the order of the file.
        notes: one line per feature of the file that an architecture cannot express, with how it was read instead.
    """

    architectures: list[Architecture]
    notes: tuple[str, ...] = ()


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, without surrounding whitespace. Raises ConfigurationError if it cannot be read."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{path}: cannot be read ({reason}); name a readable text file") from error


def checked(architecture: Architecture, shape: ModelShape, where: str) -> Architecture:
    """The architecture itself, if it fits the model.

    Args:
        architecture: the architecture to check.
        shape: sizes of the dense model.
        where: place of the architecture in its file, for messages.

    Raises:
        ConfigurationError: the number of layers differs from the model's, or a layer is larger than the model's.
    """
    kept, dense = architecture.layers, shape.dense.layers
    if len(kept) != len(dense):
        raise ConfigurationError(
            f"{where}: {counted(len(kept), 'layer')}, the model has {len(dense)}; name the model the file was made for"
        )
    for number, (layer, full) in enumerate(zip(kept, dense, strict=True)):
        if any(part > whole for part, whole in zip(layer, full, strict=True)):
            raise ConfigurationError(
                f"{where}: layer {number} keeps {_text(layer)}, more than the model's {_text(full)}; "
                "name the model the file was made for"
            )
    return architecture


def _text(layer: Layer) -> str:
    return str(Architecture([layer]))
