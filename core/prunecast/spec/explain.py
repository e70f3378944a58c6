"""Validation errors as problems of a spec: the place, the mistake and the accepted values."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from prunecast.plugins.host import PluginHost
from prunecast.spec.document import Document, KeyPath, Problem
from prunecast.spec.model import PluginUse, Spec

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "enum": "{expected}",
}
"""Accepted value, by the type of pydantic's error."""

_COUNTED = {
    "too_short": "needs at least {min_length} item(s), has {actual_length}",
    "too_long": "takes at most {max_length} item(s), has {actual_length}",
    "string_too_short": "needs at least {min_length} character(s)",
    "string_too_long": "takes at most {max_length} character(s)",
}


def problem_of(error: ErrorDetails, document: Document, host: PluginHost) -> Problem:
    """Problem for one error of validating a document's data as a :class:`Spec`.

    Its place is the value, the key if the key is wrong, or the surrounding mapping if a key is missing.
    """
    is_key = error["loc"][-1:] == ("[key]",)
    path, key_place, value_place = document.find(error["loc"])
    if error["type"] == "missing":
        return Problem(value_place, (*path, error["loc"][-1]), "required, but missing")
    if error["type"] == "extra_forbidden":
        known = list(_known_keys(path[:-1], document.data, host))
        message = f"unknown option {path[-1]!r}{_guess(path[-1], known)}; known: {', '.join(known) or 'none'}"
        return Problem(key_place, path, message)
    return Problem(key_place if is_key else value_place, path, _message(error))


def _message(error: ErrorDetails) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind in _COUNTED:
        return _COUNTED[kind].format(**context)
    if kind == "union_tag_not_found":
        return f"needs the key {context['discriminator']}, which decides what other keys are allowed"
    if kind == "union_tag_invalid":
        wanted, tag = context["expected_tags"], context["tag"]
        guess = _guess(tag, re.findall(r"'([^']*)'", wanted))
        return f"{context['discriminator']} must be one of {wanted}, got {tag!r}{guess}"
    if kind in _WANTED:
        wanted = _WANTED[kind].format(**context)
        quotes = ": put it in quotes" if kind == "string_type" and isinstance(value, bool | int | float) else ""
        guess = _guess(value, re.findall(r"'([^']*)'", wanted)) if kind in ("literal_error", "enum") else ""
        return f"must be {wanted}, got {_shown(value)}{guess}{quotes}"
    if error["msg"].startswith("Input should "):
        return f"{error['msg'].replace('Input should', 'must', 1)}, got {_shown(value)}"
    return error["msg"]


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _guess(name: object, known: Iterable[str]) -> str:
    near = get_close_matches(str(name), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _known_keys(path: KeyPath, data: Any, host: PluginHost) -> Iterator[str]:
    """Keys of the models that are possible at ``path`` of a spec's data."""
    models: list[type[BaseModel]] = [Spec]
    for part in path:
        data = data[part]
        fields = [field for model in models for key, field in _fields(model) if key == part]
        if fields:
            models = [model for field in fields for model in _models_in(field.annotation)]
        models = [
            model.options_model(host, data["use"]) if issubclass(model, PluginUse) and isinstance(data, dict) else model
            for model in models
            if _is_meant(model, data)
        ]
    return (key for model in models for key, _ in _fields(model))


def _is_meant(model: type[BaseModel], data: Any) -> bool:
    """True unless a value such as ``method: lora`` selects another model of the union."""
    if not isinstance(data, dict):
        return True
    required = {key: get_args(field.annotation) for key, field in _fields(model) if field.is_required()}
    return all(data.get(key) in allowed for key, allowed in required.items() if allowed and type(allowed[0]) is str)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    return ((field.alias or name, field) for name, field in model.model_fields.items())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
