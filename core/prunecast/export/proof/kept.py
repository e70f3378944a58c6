"""Proofs in the cache: a description is proven once for each version of the code and config of its models."""

import json
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from prunecast.cache import cached
from prunecast.errors import ModelError
from prunecast.export.proof.prove import CHECKS, Proof, prove
from prunecast.keys import content_key
from prunecast.models.families.family import Family
from prunecast.models.families.refusals import what_it_is
from prunecast.models.families.small import small
from prunecast.models.pruned.classes import code_hash_of
from prunecast.owned.files import written_whole

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_OF_FILES = ("_name_or_path", "architectures", "dtype", "transformers_version")
"""Entries of a config that say nothing about its models."""


def proven(family: Family, config: "PreTrainedConfig", *, again: bool = False) -> Proof:
    """The proof of a description for the models of a config: from the cache, or a new one, which is cached.

    If the cache cannot be written, every process proves it again.

    Args:
        family: the description.
        config: config of a model of the family; it is not changed.
        again: True to prove it even if the cache has a proof.

    Raises:
        ModelError: as :func:`prunecast.export.proof.prove.prove`; if no description fits such models, the message says
            what they are. A failure is not cached.
    """
    try:
        return _proven(family, config, again)
    except ModelError as error:
        reason = what_it_is(config)
        if reason is None:
            raise
        raise ModelError(
            f"model type {config.model_type!r} cannot be pruned by any description: {reason}; choose a decoder whose "
            f"layers are attention and MLP (the proof ended at: {str(error).partition(': ')[0]})"
        ) from error


def _proven(family: Family, config: "PreTrainedConfig", again: bool) -> Proof:
    place = _place(family, config)
    found = None if again else _read(place)
    if found is None:
        found = prove(family, config)
        with suppress(OSError), written_whole(place) as unfinished:
            unfinished.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def kept_proof(family: Family, config: "PreTrainedConfig") -> Proof | None:
    """The cached proof of a description for the models of a config; None if there is none.

    Raises:
        ModelError: the config class cannot be shrunk.
    """
    return _read(_place(family, config))


def _place(family: Family, config: "PreTrainedConfig") -> Path:
    """File of a proof, named by all that it depends on."""
    import transformers

    content = {name: value for name, value in small(config).to_dict().items() if name not in _OF_FILES}
    subject = {
        "description": asdict(family.settled(config)),
        "class": f"{type(config).__module__}.{type(config).__qualname__}",
        "config": content,
        "code": code_hash_of(config),
        "transformers": transformers.__version__,
        "prunecast": version("prunecast"),
        "checks": [check.__name__ for check in CHECKS],
    }
    return cached("proofs", f"{family.name}-{content_key(json.loads(json.dumps(subject, default=str)))}.json")


def _read(place: Path) -> Proof | None:
    try:
        return Proof(**json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # missing or damaged
        return None
