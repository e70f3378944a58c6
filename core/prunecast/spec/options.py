"""Table of a plugin's options, one row per option, from the same JSON schema that editors use."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} of them",
    "minLength": "not empty",
}

_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
    "null": "null",
}


class Option(NamedTuple):
    """One option.

    Attributes:
        name: its dotted path, ``calibration.samples`` for an option inside another.
        kind: accepted values, in words.
        default: its default as JSON, or ``required``.
        help: its description.
    """

    name: str
    kind: str
    default: str
    help: str


def options_of(model: type[BaseModel]) -> list[Option]:
    """Every option of an options model; options inside another follow it."""
    schema = model.model_json_schema()
    return list(_options(schema, schema.get("$defs", {}), ""))


def _options(schema: Mapping[str, Any], definitions: Mapping[str, Any], inside: str) -> Iterator[Option]:
    for name, field in schema.get("properties", {}).items():
        default = json.dumps(field["default"], ensure_ascii=False) if "default" in field else "required"
        one = _one_of_list(field)
        field, kind = (field, "mapping") if one is None else (one, "mapping or list of mapping")
        nested = _definition(field, definitions)
        if "properties" not in nested:
            yield Option(inside + name, _kind(field, definitions), default, field.get("description", ""))
            continue
        yield Option(inside + name, kind, "as below" if "default" in field else default, field.get("description", ""))
        yield from _options(_with_defaults(nested, field.get("default")), definitions, f"{inside}{name}.")


def _one_of_list(field: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The field as a single mapping, if it takes one or a list of such, and has at most one by default."""
    references = [way.get("items", way).get("$ref") for way in field.get("anyOf", ())]
    default = field.get("default", [None])
    if len(references) != 2 or references[0] is None or references[0] != references[1] or len(default) != 1:
        return None
    return {**field, "$ref": references[0], **({"default": default[0]} if "default" in field else {})}


def _with_defaults(nested: Mapping[str, Any], default: object) -> Mapping[str, Any]:
    """Schema of an inner mapping with the defaults that the outer option gives it."""
    if not isinstance(default, Mapping):
        return nested
    fields = nested["properties"].items()
    return {"properties": {name: {**field, **_default_in(default, name)} for name, field in fields}}


def _default_in(default: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"default": default[name]} if name in default else {}


def _definition(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(field.get("$ref", "")).rpartition("/")[2]
    found: Mapping[str, Any] = definitions.get(name, field)
    return found


def _kind(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Accepted values of a field, in words."""
    field = {**_definition(field, definitions), **{key: value for key, value in field.items() if key != "$ref"}}
    if values := field.get("enum", [field["const"]] if "const" in field else []):
        return " or ".join(map(str, values))
    if alternatives := field.get("anyOf", field.get("oneOf")):
        return " or ".join(dict.fromkeys(_kind(each, definitions) for each in alternatives))
    words = [_WORDS.get(str(field.get("type", "anything")), "anything")]
    if "items" in field:
        words = [f"list of {_kind(field['items'], definitions)}"]
    words += [limit.format(field[key]) for key, limit in _LIMITS.items() if key in field]
    return ", ".join(words)
