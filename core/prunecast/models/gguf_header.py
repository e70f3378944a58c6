"""The header of a GGUF file: its single values, and the places of its tensors. Its lists are skipped, not read.

The library ``gguf`` reads every token of a vocabulary, which takes seconds.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STRING, _LIST = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of values, as ``struct`` has them."""

_FLOAT32 = 0
_ALIGNMENT = 32


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a file.

    Attributes:
        elements: number of numbers.
        kind: number of its storage type.
        offset: its first byte in the file.
    """

    elements: int
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """The header of one file.

    Attributes:
        path: the file.
        fields: values by name, lists left out.
        tensors: tensors by name.
    """

    path: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """Name of llama.cpp's architecture."""
        return str(self.fields.get("general.architecture"))

    def value(self, name: str) -> Any:
        """A value of the architecture, such as ``attention.key_length``; None if there is none."""
        return self.fields.get(f"{self.architecture}.{name}")

    def floats(self, name: str) -> tuple[float, ...]:
        """Numbers of a tensor that is stored in float32; empty if there is none."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.kind != _FLOAT32:
            return ()
        with self.path.open("rb") as file:
            file.seek(tensor.offset)
            return struct.unpack(f"<{tensor.elements}f", file.read(4 * tensor.elements))


def gguf_header(path: Path) -> GgufHeader | None:
    """The header of a file; None if the file is damaged, or of another byte order, of which others tell."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _Cursor(content).header(path)
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError, ValueError):
            return None


class _Cursor:
    """A place in a file that is read forwards."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, 0

    def header(self, path: Path) -> GgufHeader:
        magic, version, tensors, fields = self._read("4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("no GGUF file of this byte order")
        values = {name: value for name, value in (self._field() for _ in range(fields)) if value is not None}
        places = [(self._text(), *self._tensor()) for _ in range(tensors)]
        alignment = int(values.get("general.alignment", _ALIGNMENT))
        start = -(-self._at // alignment) * alignment
        found = {name: GgufTensor(elements, kind, start + offset) for name, elements, kind, offset in places}
        return GgufHeader(path, values, found)

    def _read(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self._content, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found

    def _text(self) -> str:
        (length,) = self._read("Q")
        (content,) = self._read(f"{length}s")
        return str(content, "utf-8")

    def _field(self) -> tuple[str, Any]:
        """Name and value of a field; None for a list."""
        name, (kind,) = self._text(), self._read("I")
        if kind == _STRING:
            return name, self._text()
        if kind == _LIST:
            self._skip_list()
            return name, None
        (value,) = self._read(_FORMATS[kind])
        return name, value

    def _skip_list(self) -> None:
        kind, length = self._read("IQ")
        if kind == _LIST:
            for _ in range(length):
                self._skip_list()
        elif kind == _STRING:
            for _ in range(length):
                (size,) = self._read("Q")
                self._at += size
        else:
            self._at += length * struct.calcsize(f"<{_FORMATS[kind]}")

    def _tensor(self) -> tuple[int, int, int]:
        (dimensions,) = self._read("I")
        shape = self._read(f"{dimensions}Q")
        kind, offset = self._read("IQ")
        return math.prod(shape), kind, offset
