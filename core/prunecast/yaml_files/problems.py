"""Errors of validating a YAML file as problems: the place, the mistake and the accepted values."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches

from pydantic_core import ErrorDetails

from prunecast.yaml_files.document import Document, KeyPath, Place, Problem

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
    "dataclass_type": "a mapping",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "enum": "{expected}",
}
"""Accepted value, by the type of pydantic's error."""

_MISSING = "required, but missing"

_COUNTED = {
    "too_short": "needs at least {min_length} item(s), has {actual_length}",
    "too_long": "takes at most {max_length} item(s), has {actual_length}",
    "string_too_short": "needs at least {min_length} character(s)",
    "string_too_long": "takes at most {max_length} character(s)",
}


def problem_of(error: ErrorDetails, document: Document, known_keys: Callable[[KeyPath], Iterable[str]]) -> Problem:
    """Problem for one error of validating a document's data.

    Its place is the value, the key if the key is wrong, or the surrounding mapping if a key is missing.

    Args:
        error: the error.
        document: the document.
        known_keys: returns the keys that the mapping at a path may have.
    """
    is_key = error["loc"][-1:] == ("[key]",)
    path, key_place, value_place = document.find(error["loc"])
    if error["type"] == "missing":
        return Problem(value_place, (*path, error["loc"][-1]), _MISSING)
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = list(known_keys(path[:-1]))
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


def messages_of(document: Document, invalid: Iterable[Problem], overrides: Sequence[str] = ()) -> list[str]:
    """Refused spellings and failed validations as messages, in the order of the file, then of the overrides.

    Of those at the same place, what is missing comes first.

    A value with a refused spelling may also fail validation, as what YAML reads it as: only the refusal is reported.

    Args:
        document: the document.
        invalid: the failed validations of its data.
        overrides: the ``KEY.PATH=VALUE`` that it has been changed by.
    """
    refused = {problem.path for problem in document.problems}
    independent = [
        problem
        for problem in invalid
        if not any(problem.path[:length] in refused for length in range(1, len(problem.path) + 1))
    ]
    sources = [document.source, *(f"--set {override}" for override in overrides)]
    problems = sorted(
        {*document.problems, *independent},
        key=lambda problem: (
            sources.index(problem.place.source),
            problem.place,
            problem.message != _MISSING,
            str(problem),
        ),
    )
    return _alternatives_joined(problems)


def _alternatives_joined(problems: Iterable[Problem]) -> list[str]:
    """Text of the problems; a value that fits no member of a union is one problem, not one per member."""
    messages: dict[tuple[Place, KeyPath], list[str]] = {}
    for problem in problems:
        messages.setdefault((problem.place, problem.path), []).append(problem.message)
    return [str(Problem(place, path, "; or ".join(several))) for (place, path), several in messages.items()]
