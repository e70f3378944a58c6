"""Specs as Python callers give them: checked, and written as the YAML text that they stand for."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prunecast.errors import SpecError
from prunecast.yaml_files.document import KeyPath, dotted

_LINE = re.compile(r"^spec:\d+:\d+: ")
_A_STRING_IS = "a string is a path, the name of a packaged spec, or YAML text of several lines or in braces"


def check_source(source: object) -> None:
    """Raise SpecError unless ``source`` can be the path, the name or the text of a spec."""
    if not isinstance(source, str | os.PathLike):
        raise SpecError([f"spec: must be a path, a packaged spec's name, YAML text or a dict, got {kind_of(source)}"])
    if isinstance(source, str) and not source.strip():
        raise SpecError([f"spec: the text is empty: {_A_STRING_IS}"])
    if isinstance(source, str) and ": " in source and not is_text(source) and not Path(source).exists():
        raise SpecError([f"spec: no file {source[:60]!r}: {_A_STRING_IS}"])


def is_text(source: str) -> bool:
    """True if a string is the text of a spec, not a path or a name."""
    return "\n" in source or source.lstrip().startswith("{")


def check_overrides(overrides: object) -> None:
    """Raise SpecError unless ``overrides`` are a list of assignments."""
    if isinstance(overrides, str):
        raise SpecError([f"overrides: must be a list, got one string: write [{overrides!r}]"])
    if not isinstance(overrides, Sequence) or not all(isinstance(each, str) for each in overrides):
        raise SpecError([f"overrides: must be a list of 'KEY.PATH=VALUE', got {kind_of(overrides)}"])


@contextmanager
def without_lines() -> Iterator[None]:
    """Leave the lines and columns out of errors: those of the text that a mapping became say nothing to its author."""
    try:
        yield
    except SpecError as error:
        raise SpecError([_LINE.sub("spec: ", problem) for problem in error.problems]) from error


def yaml_of(source: Mapping[str, Any]) -> str:
    """YAML text of a mapping. Scalars of numpy and paths are written as plain values.

    Raises:
        SpecError: a value has no such form; the message names its key.
    """
    import yaml

    try:
        return str(yaml.safe_dump(_plain(source, ()), sort_keys=False, allow_unicode=True))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SpecError([f"spec: {reason}; write plain dicts, lists, strings and numbers"]) from error
    except RecursionError as error:
        raise SpecError(["spec: nested too deeply, or inside itself: write plain dicts and lists"]) from error


def _plain(value: Any, path: KeyPath) -> Any:
    import numpy as np

    if isinstance(value, Mapping):
        return {_plain(key, path): _plain(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, position)) for position, item in enumerate(value)]
    if isinstance(value, np.generic):
        return _plain(value.item(), path)
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)  # a subclass, such as a member of an enum, is not plain
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    fix = "write value.tolist()" if hasattr(value, "tolist") else "write plain dicts, lists, strings and numbers"
    raise SpecError([f"spec: {dotted(path)}: must be plain data, got {kind_of(value)}: {fix}"])


def kind_of(value: object) -> str:
    """A value as messages name it: its type, and None as it is."""
    return "None" if value is None else f"an object of type {type(value).__name__}"
