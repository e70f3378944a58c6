"""The manifest: the list of the files that prunecast wrote to a folder, with what they were made of."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = 1
"""Version of the manifest's form."""

LARGEST = 2**24
"""Size in bytes beyond which a file is not read as a manifest."""


_EARLIER = {"target": "huggingface"}
"""Identities of subjects that do not have them, as there was no choice when their files were written."""


@dataclass(frozen=True)
class Origin:
    """Origin of the files of a folder.

    Attributes:
        run: name of the run that made them, for messages; empty if there is none.
        subject: identities by name, e.g. ``spec``, ``model`` and ``architecture``. Files of one subject may replace
            those of the same one.
        key: content key of everything that the files follow from; origins of equal keys have equal files. Empty if
            it is not known.
    """

    run: str = ""
    subject: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    def differences(self, other: "Origin") -> list[str]:
        """Names under which the subjects of both have a value, but not the same. Of one subject if there are none."""
        one, another = (_EARLIER | dict(origin.subject) for origin in (self, other))
        return sorted(name for name in one.keys() & another.keys() if one[name] != another[name])


@dataclass(frozen=True)
class Manifest:
    """Files of a folder that prunecast wrote.

    Attributes:
        origin: what they were made of.
        files: SHA-256 by name, the manifest left out; ``/`` separates folders.
        facts: facts about them, JSON-able.
    """

    origin: Origin
    files: Mapping[str, str]
    facts: Mapping[str, Any]

    def to_json(self) -> str:
        """Text of the manifest, the same for the same content."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """The manifest in ``file``; None if there is none, or something else.

        Every name it lists lies inside the folder: a manifest may come from anybody.

        Raises:
            OSError: the file cannot be read.
        """
        if not file.is_file() or file.stat().st_size > LARGEST:
            return None
        try:
            stored = _Stored.model_validate_json(file.read_bytes())
        except ValidationError:
            return None
        if stored.format != FORMAT or not all(map(_is_inside, stored.files)):
            return None
        return cls(Origin(**stored.origin.model_dump()), stored.files, stored.facts)


class _StoredOrigin(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    run: str
    subject: dict[str, str]
    key: str


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: int
    origin: _StoredOrigin
    files: dict[str, str] = Field(min_length=1)
    facts: dict[str, Any]


def _is_inside(name: str) -> bool:
    """True if a listed name lies inside the folder on every platform."""
    path = PurePosixPath(name)
    unsafe = "\\" in name or ":" in name or not name.isprintable()
    return bool(path.parts) and not unsafe and not path.is_absolute() and ".." not in path.parts
