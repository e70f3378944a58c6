"""The spec of a run in the registry: it is data, and executes only code that the user names again.

A registry may have been merged, pulled or downloaded, and does not say which of its runs are the user's own. So no
recorded spec may execute code by itself. A spec that the user gives, in a file or to the Python API, may.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prunecast.errors import PluginError, RegistryError
from prunecast.plugins.host import PluginHost
from prunecast.plugins.isolation import isolated
from prunecast.registry.records import RunRecord, reading_result
from prunecast.spec.model import Spec

_USES = {
    "space": ("space",),
    "pruner": ("pruner",),
    "evaluator": ("evaluators", "verify.evaluators"),
    "predictor": ("predictor",),
    "searcher": ("searcher",),
}
"""Keys of a spec that name plugins, by kind."""


@dataclass(frozen=True)
class Permissions:
    """Code that a recorded spec may execute because the user has named it again.

    Local plugins are not part of it: the plugin host holds those that the user names, and no others are used.

    Attributes:
        remote_code: True for code that comes with a model, or that a plugin loads from the network
            (``trust_remote_code``).
        code: code that options of plugins name: import paths of classes, folders of definitions.
    """

    remote_code: bool = False
    code: frozenset[str] = frozenset()

    @classmethod
    def of(cls, spec: Spec) -> "Permissions":
        """Everything that a spec of the user names."""
        content = json.loads(spec.to_json())
        return cls(_trusts(content), frozenset(_named_code(content, spec.host)))


NOTHING_PERMITTED = Permissions()


def permitted_content(record: RunRecord, host: PluginHost, permissions: Permissions) -> dict[str, Any]:
    """The content of a recorded spec, from which a spec can be made without executing code that is not permitted.

    Its ``plugins`` are left out, so none of them is imported: the plugins that it uses have to be in ``host``.

    Args:
        record: the run.
        host: plugins that are installed, and local ones that the user has named.
        permissions: other code that the user has named.

    Raises:
        RegistryError: the spec names code that is not permitted (the message names all of it), or is no mapping.
    """
    with reading_result(record):
        content = dict(json.loads(record.spec_json))
        forbidden = list(_forbidden(content, host, permissions))
    if forbidden:
        raise RegistryError(
            f"run {record.id} ({record.name}): its recorded spec names code, which no record may execute by itself: "
            f"{'; '.join(forbidden)}; read that code, then repeat the command with these options"
        )
    return {**content, "plugins": []}


def _forbidden(content: Mapping[str, Any], host: PluginHost, permissions: Permissions) -> Iterator[str]:
    """Code that a recorded spec names and that is not permitted, each with the option that permits it."""
    if _trusts(content) and not permissions.remote_code:
        yield "trust_remote_code: true (--trust-remote-code)"
    paths = content.get("plugins") or []
    missing = [f"{kind} {use['use']!r}" for kind, use in _uses(content) if use["use"] not in host.provided(kind)]
    if paths and missing:
        yield f"{', '.join(missing)} of the local plugins {paths} (--plugin-dir PATH)"
    for name in _named_code(content, host):
        if name not in permissions.code:
            yield f"{name} (--allow-code {name})"


def _trusts(content: Any) -> bool:
    """True if any ``trust_remote_code`` of a spec is set: the model's, or an option of a plugin."""
    if isinstance(content, Mapping):
        return bool(content.get("trust_remote_code")) or any(map(_trusts, content.values()))
    return isinstance(content, list) and any(map(_trusts, content))


def _named_code(content: Mapping[str, Any], host: PluginHost) -> dict[str, None]:
    """Code that the options of a spec's plugins name, in order, by :meth:`PluginOptions.named_code`."""
    found: dict[str, None] = {}
    for kind, use in _uses(content):
        try:
            registered = host.find(kind, use["use"])
        except PluginError:
            continue  # the validation of the spec reports a missing plugin
        options = {key: value for key, value in use.items() if key != "use"}
        with isolated(str(registered), "named_code"):
            found |= dict.fromkeys(registered.load().options_model.named_code(options))
    return found


def _uses(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and mapping of each plugin that a spec names; entries of another form fail in the validation."""
    for kind, keys in _USES.items():
        for key in keys:
            found: Any = content
            for part in key.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
            for use in found if isinstance(found, list) else [found]:
                if isinstance(use, dict) and isinstance(use.get("use"), str):
                    yield kind, use
