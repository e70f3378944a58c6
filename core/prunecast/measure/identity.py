"""Identity of a set-up: hashes of everything that its numbers depend on.

A command that prints or writes something of a recorded run compares the recorded identity with today's.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from prunecast.errors import ChangedError, PrunecastError
from prunecast.keys import content_key
from prunecast.measure.recorded import Permissions
from prunecast.measure.setup import Setup, dtype_name, place_of_model, spec_as_measured
from prunecast.models.source import resolve_source
from prunecast.plugins.families import plain
from prunecast.plugins.host import PluginHost
from prunecast.plugins.local import modules_at
from prunecast.registry import Registry
from prunecast.registry.identity import (
    CALIBRATION,
    COMPENSATION,
    DTYPE,
    FAMILY,
    MODEL,
    TOKENIZER,
    code_part,
    data_part,
    version_part,
    what_changed,
)
from prunecast.registry.records import RunRecord
from prunecast.spec.paths import Paths


def identity_of(setup: Setup) -> dict[str, str]:
    """Hashes of model, tokenizer, dtype, calibration texts, evaluated data and code, by description.

    Raises:
        PrunecastError: one of them is missing or cannot be read.
    """
    return {part: value for group in _GROUPS.values() for part, value in group(setup).items() if value is not None}


def identity_at_hand(setup: Setup) -> tuple[dict[str, str], list[str]]:
    """As :func:`identity_of`, but without the parts that are missing or cannot be read; the list describes them."""
    found: dict[str, str] = {}
    missing = []
    for name, group in _GROUPS.items():
        try:
            found |= {part: value for part, value in group(setup).items() if value is not None}
        except PrunecastError:
            missing.append(name)
    return found, missing


def check_unchanged(registry: Registry, record: RunRecord, today: Mapping[str, str]) -> None:
    """Check that model, data and code of a recorded run are the same today.

    Args:
        registry: the registry of the run.
        record: the run.
        today: today's identity of its spec.

    Raises:
        ChangedError: something differs; the message describes what, and since when.
    """
    if changed := what_changed(registry.identity_of(record), today):
        raise ChangedError(
            f"{record.described} was made from other things than there are now, changed since: {', '.join(changed)}; "
            "run its spec again to measure anew"
        )


def unchanged_at_hand(registry: Registry, record: RunRecord, host: PluginHost, permissions: Permissions) -> list[str]:
    """As :func:`check_unchanged`, for commands that need recorded numbers alone: missing parts are not compared.

    Returns:
        Descriptions of the parts that are missing here.

    Raises:
        ChangedError: something differs; the message describes what, and since when.
    """
    try:
        today, missing = identity_at_hand(Setup(spec_as_measured(record, host, permissions), host))
    except PrunecastError:
        today, missing = _files_at_hand(record), ["the calibration text", "the evaluated data"]
    check_unchanged(registry, record, today)
    return missing


def _files_at_hand(record: RunRecord) -> dict[str, str]:
    """Hashes of the model, the tokenizer and the local plugins of a recorded spec, as far as they are found.

    No code is executed, so they are compared even if the spec needs code that the user has not named.
    """
    found: dict[str, str] = {}
    spec = json.loads(record.spec_json)
    try:
        paths, named = Paths(Path(spec.get("folder") or "")), spec.get("plugins", ())
    except (AttributeError, TypeError):
        return found  # no spec of prunecast's own
    with suppress(PrunecastError, KeyError, TypeError):
        source = resolve_source(place_of_model(paths, spec["model"]["source"]), spec["model"].get("revision"))
        found |= {MODEL: source.fingerprint(), TOKENIZER: source.tokenizer_digest()}
    for path in named:
        with suppress(PrunecastError):
            found |= {code_part(str(origin)): str(origin.code_hash) for _, _, origin in modules_at(paths.find(path))}
    return found


def _model(setup: Setup) -> dict[str, str | None]:
    return {MODEL: setup.model_record.fingerprint}


def _family(setup: Setup) -> dict[str, str | None]:
    """Description of the family; None for the bundled one, unless the spec names it, as its content may change."""
    named = setup.spec.model.family is not None
    return {FAMILY: setup.description or (content_key(plain(setup.family)) if named else None)}


def _tokenizer(setup: Setup) -> dict[str, str | None]:
    return {TOKENIZER: setup.source.tokenizer_digest()}


def _measuring(setup: Setup) -> dict[str, str | None]:
    """Dtype, and the code of every plugin."""
    evaluators = [*setup.spec.evaluators, *setup.spec.verify.evaluators]
    uses = [setup.spec.space, setup.spec.pruner, *evaluators, setup.spec.predictor, setup.spec.searcher]
    return {
        DTYPE: dtype_name(setup.dtype),
        version_part(setup.spec.pruner.use): str(setup.pruner.version),
        **{code_part(str(origin)): origin.code_hash for origin in map(setup.origin, uses)},
    }


def _calibration(setup: Setup) -> dict[str, str | None]:
    found = {CALIBRATION: setup.ranking_record.data_hash}
    return found | {COMPENSATION: setup.pruner_record.data_hash} if setup.compensation else found


def _data(setup: Setup) -> dict[str, str | None]:
    records = [named.setting.evaluator for named in setup.verifiers]
    versions = {version_part(record.name): str(record.version) for record in records}
    return versions | {data_part(record.name, record.options): record.data_hash for record in records}


_GROUPS: Mapping[str, Callable[[Setup], dict[str, str | None]]] = {
    "the model": _model,
    "the description of its family": _family,
    "the tokenizer": _tokenizer,
    "the code of the plugins": _measuring,
    "the calibration text": _calibration,
    "the evaluated data": _data,
}
"""Parts of an identity that are found, or missing, together."""
