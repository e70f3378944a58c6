"""The JSON schema of a spec, built from the available plugins; editors use it to complete and check specs."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from prunecast.plugins.host import PluginHost, Registered
from prunecast.spec.model import (
    EvaluatorUse,
    ExporterUse,
    PluginUse,
    PredictorUse,
    PrunerUse,
    SearcherUse,
    SpaceUse,
    Spec,
)

_USES: tuple[type[PluginUse], ...] = (
    SpaceUse,
    PrunerUse,
    EvaluatorUse,
    PredictorUse,
    SearcherUse,
    ExporterUse,
)
_MODE: JsonSchemaMode = "validation"
_DEFINITION = "#/$defs/"

Schema = dict[str, Any]


def json_schema(host: PluginHost) -> Schema:
    """JSON schema, draft 2020-12, of specs that use the plugins of ``host``.

    The options of a plugin are keys beside ``use``, whose value selects the plugin; a plugin without required options
    may also be written as its bare name. Imports every plugin. Raises PluginError if one cannot be imported.
    """
    plugins = {use: [(entry, entry.load().options_model) for entry in host.entries(use.kind).values()] for use in _USES}
    models: dict[type[BaseModel], None] = dict.fromkeys((Spec, *_USES))
    models |= dict.fromkeys(options for entries in plugins.values() for _, options in entries)
    references, schema = models_json_schema([(model, _MODE) for model in models])
    names = {model: str(references[model, _MODE]["$ref"]).removeprefix(_DEFINITION) for model in models}
    definitions = schema["$defs"]
    for use, entries in plugins.items():
        variants = [(entry, definitions[names[options]]) for entry, options in entries]
        definitions[names[use]] = _plugin_use(use, variants)
    top = definitions.pop(names[Spec])
    used = _reachable(top, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "$defs": {name: definition for name, definition in sorted(definitions.items()) if name in used},
    }


def _plugin_use(use: type[PluginUse], plugins: list[tuple[Registered, Schema]]) -> Schema:
    bare = [plugin.entry.name for plugin, options in plugins if not options.get("required")]
    variants = [_variant(plugin, options) for plugin, options in plugins]
    shorthand = [{"type": "string", "enum": bare, "description": f"A {use.kind} with its defaults."}] if bare else []
    return {"title": use.kind, "description": use.__doc__, "anyOf": [*variants, *shorthand]}


def _variant(plugin: Registered, options: Schema) -> Schema:
    """Schema of ``{use: NAME, option: value, ...}``."""
    use = {"const": plugin.entry.name, "type": "string", "description": plugin.entry.summary}
    return {
        **options,
        "title": plugin.entry.name,
        "properties": {"use": use, **options.get("properties", {})},
        "required": ["use", *options.get("required", [])],
    }


def _reachable(schema: Any, definitions: Schema) -> set[str]:
    """Names of the definitions that ``schema`` refers to, directly or through others."""
    found: set[str] = set()
    open_ends = [schema]
    while open_ends:
        end = open_ends.pop()
        if isinstance(end, list):
            open_ends += end
        elif isinstance(end, dict):
            open_ends += end.values()
            name = str(end.get("$ref", "")).removeprefix(_DEFINITION)
            if name in definitions and name not in found:
                found.add(name)
                open_ends.append(definitions[name])
    return found
