"""Lineage of a pruned model: the models it was made from, one after the other, as its config says."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

ENTRY = "prunecast_made_from"
"""Entry of a config with the lineage. It changes nothing that the model computes, and training keeps it."""

MOST = 100
"""Most ancestors that are believed."""


class Ancestor(BaseModel):
    """A model from which another one was pruned.

    Attributes:
        model: its source as the spec named it, e.g. a Hub id or a folder.
        fingerprint: content hash of its config and weights.
        revision: exact commit of a Hub model, else None.
        run: name of the run that pruned it.
        spec: content key of the spec of this run, the key of the run in its registry.
        architecture: what the run kept of it, in the form of :class:`prunecast.architecture.architecture.Architecture`.
        recovered: True if the pruned model was trained by the run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str = Field(max_length=4096)
    fingerprint: str = Field(max_length=64)
    revision: str | None = Field(default=None, max_length=64)
    run: str = Field(max_length=1024)
    spec: str = Field(max_length=64)
    architecture: str = Field(max_length=100_000)
    recovered: bool = False


Lineage = tuple[Ancestor, ...]
"""The original model first, the one that was pruned last at the end."""

_LINEAGE: TypeAdapter[list[Ancestor]] = TypeAdapter(list[Ancestor])


def lineage_of(content: Mapping[str, Any]) -> Lineage:
    """Lineage in the content of a config; empty if it has none, or something else under this name."""
    try:
        found = _LINEAGE.validate_python(content.get(ENTRY, []))
    except ValidationError:
        return ()
    return tuple(found[:MOST])


def lineage_to_json(lineage: Sequence[Ancestor]) -> list[dict[str, Any]]:
    """JSON-able form, without fields that are at their defaults."""
    return [ancestor.model_dump(exclude_defaults=True) for ancestor in lineage]


def told(lineage: Sequence[Ancestor]) -> str:
    """One sentence on a lineage, the nearest model first; empty if there is none."""
    steps = [f"{each.model} by run {each.run}{' (recovered)' if each.recovered else ''}" for each in reversed(lineage)]
    return ", made from ".join(steps)
