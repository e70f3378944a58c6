"""The licence of a model, as its own files state it: the card of a folder or a Hub model, the header of a GGUF file."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from prunecast.hub import hub_or_its_cache
from prunecast.models.families.quiet import quiet_transformers

if TYPE_CHECKING:
    from prunecast.models.source import ModelSource

CARD = "README.md"

_KEYS = ("license", "license_name", "license_link")
"""Keys in the front matter of a card; in a GGUF header they follow ``general.``, with a dot for ``_``."""

_LARGEST_TEXT = 2**16
"""Length in bytes beyond which a text in a GGUF header is not read."""

_GGUF_TEXT, _GGUF_LIST = 8, 9
_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value in a GGUF header, by the number of its type."""

_ADDRESS = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class License:
    """A licence.

    Attributes:
        identifier: its identifier on the Hub, e.g. ``apache-2.0``; ``other`` for one that has none there.
        name: its name, if it is another one.
        link: address of its text, if it is another one.
    """

    identifier: str
    name: str | None = None
    link: str | None = None


def license_of(source: "ModelSource") -> License | None:
    """The licence that the model's files state; None if they state none, or several.

    Only for a Hub model whose card is not on this machine the network is asked, unless it is offline.
    """
    if source.kind == "gguf":
        general = _general_texts(source.path)
        identifier, name, link = (general.get(f"general.{key.replace('_', '.')}") for key in _KEYS)
    else:
        stated = _front_matter(_card(source))
        identifier, name, link = (stated.get(key) for key in _KEYS)
    if isinstance(identifier, list) and len(identifier) == 1:
        identifier = identifier[0]
    if not isinstance(identifier, str) or not identifier:
        return None
    return License(identifier, name if isinstance(name, str) else None, _address(link, source))


def _address(link: Any, source: "ModelSource") -> str | None:
    """A link that works outside the model's folder; a file of a Hub model is looked at there."""
    if not isinstance(link, str) or not link.strip():
        return None
    if _ADDRESS.fullmatch(link):
        return link
    if source.kind != "hub" or not re.fullmatch(r"[\w./-]+", link):
        return None
    return f"https://huggingface.co/{source.name}/blob/{source.revision}/{link}"


def _card(source: "ModelSource") -> Path | None:
    file = source.path / CARD
    if source.kind != "hub" or file.is_file():
        return file if file.is_file() else None
    from huggingface_hub import hf_hub_download

    try:
        with quiet_transformers(), hub_or_its_cache():
            return Path(hf_hub_download(source.name, CARD, revision=source.revision))
    # The library and the network raise many classes of exceptions, all of which mean that there is no card to read.
    except Exception:  # noqa: BLE001
        return None


def _front_matter(card: Path | None) -> Mapping[str, Any]:
    import yaml
    from huggingface_hub.repocard import metadata_load

    if card is None:
        return {}
    try:
        return metadata_load(card) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}


def _general_texts(path: Path) -> dict[str, Any]:
    """Texts under ``general.`` at the beginning of a GGUF header, by key.

    The readers of GGUF files parse the whole header first, which takes 20 s for a vocabulary of 262,144 tokens.
    """
    found: dict[str, Any] = {}
    with path.open("rb") as file:
        try:
            _, _, _, count = struct.unpack("<4sIQQ", _read(file, 24))
            for _ in range(count):
                key = _text(file)
                if not key.startswith("general."):
                    break
                value = _value(file, *struct.unpack("<I", _read(file, 4)))
                if value is not None:
                    found[key] = value
        except (EOFError, KeyError, UnicodeDecodeError, RecursionError):  # a damaged file, of which loading tells
            pass
    return found


def _value(file: BinaryIO, kind: int) -> str | None:
    """Read a value of a header; None for one that is no text."""
    if kind == _GGUF_TEXT:
        return _text(file)
    if kind == _GGUF_LIST:
        inner, count = struct.unpack("<IQ", _read(file, 12))
        for _ in range(count):
            _value(file, inner)
        return None
    _read(file, _GGUF_SIZES[kind])
    return None


def _text(file: BinaryIO) -> str:
    return _read(file, *struct.unpack("<Q", _read(file, 8))).decode()


def _read(file: BinaryIO, count: int) -> bytes:
    content = file.read(count) if count <= _LARGEST_TEXT else b""
    if len(content) < count:
        raise EOFError
    return content
