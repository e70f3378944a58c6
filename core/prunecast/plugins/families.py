"""Descriptions of families as files: read, checked, and found through the hook ``prunecast_families``."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from prunecast.errors import PluginError, one_line
from prunecast.models.families.catalogue import Families
from prunecast.models.families.family import Family, Variant
from prunecast.plugins.host import PluginHost, Registered


def families_of(host: PluginHost) -> Families:
    """The families that plugins describe. Their files are read when they are asked for."""
    return Families(_Described(host.entries("family")))


class _Described(Mapping[str, Family]):
    """Families by model type, each read from the file of its entry."""

    def __init__(self, entries: Mapping[str, Registered]) -> None:
        self._entries = entries

    def __getitem__(self, kind: str) -> Family:
        return read_family(file_of(self._entries[kind]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def file_of(registered: Registered) -> Path:
    """The file of an entry, whose target is ``package:path/in/it.yaml``."""
    package, _, path = registered.entry.target.partition(":")
    return Path(str(files(package).joinpath(path)))


@cache
def read_family(file: Path) -> Family:
    """The description in a YAML file.

    Raises:
        PluginError: the file cannot be read, or is no description.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return _FAMILY.validate_python(content)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise PluginError(f"{file}: is no description of a family ({one_line(error)})") from error


Variant.__pydantic_config__ = Family.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
_FAMILY = TypeAdapter(Family)
