"""What an importer finds, and what every importer checks."""

from dataclasses import dataclass
from pathlib import Path

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ConfigurationError


@dataclass(frozen=True)
class Imported:
    """Architectures of a file.

    Attributes:
        architectures: at least one, in the order of the file.
        notes: one line about each thing the file says that an architecture cannot, and what was made of it.
    """

    architectures: list[Architecture]
    notes: tuple[str, ...] = ()


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without blanks at their ends. Raises ConfigurationError if it cannot be read."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise ConfigurationError(f"{path}: cannot be read ({reason}); name a readable text file") from error


def checked(architecture: Architecture, shape: ModelShape, where: str) -> Architecture:
    """The architecture, if it is one of the model. Raises ConfigurationError, naming ``where``, for any other."""
    kept, dense = architecture.layers, shape.dense.layers
    if len(kept) != len(dense):
        raise ConfigurationError(f"{where}: {len(kept)} layers, the model has {len(dense)}; name the model it is of")
    for number, (layer, full) in enumerate(zip(kept, dense, strict=True)):
        if any(part > whole for part, whole in zip(layer, full, strict=True)):
            raise ConfigurationError(
                f"{where}: layer {number} keeps {_text(layer)}, more than the model's {_text(full)}; "
                "name the model it is of"
            )
    return architecture


def _text(layer: Layer) -> str:
    return str(Architecture([layer]))
