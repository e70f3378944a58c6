"""Architectures as text: one per line in the form of ``str(architecture)``, or a JSON list of such strings."""

import json
from pathlib import Path

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.formats.imported import Imported, checked, read_lines
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ConfigurationError


def from_text(path: Path, shape: ModelShape) -> Imported:
    """Architectures of a text file: one per line, with blank lines and ``#`` comments, or one JSON list of strings.

    Raises:
        ConfigurationError: the file cannot be read, holds no architecture, or holds one that does not fit the model.
    """
    lines = read_lines(path)
    if any(line.startswith("[") for line in lines[:1]):
        lines = _json_lines(path, "\n".join(lines))
    found = [
        checked(_parse(line, f"{path}:{number}"), shape, f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line and not line.startswith("#")
    ]
    if not found:
        raise ConfigurationError(f"{path}: holds no architecture; write one per line, e.g. {shape.dense}")
    return Imported(list(dict.fromkeys(found)))


def _json_lines(path: Path, text: str) -> list[str]:
    try:
        lines = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{path}:{error.lineno}: not valid JSON ({error.msg}); write a list of strings"
        ) from error
    if not all(isinstance(line, str) for line in lines):
        raise ConfigurationError(f"{path}: not a JSON list of strings; write one string per architecture")
    return list(lines)


def _parse(line: str, where: str) -> Architecture:
    try:
        return Architecture.parse(line)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from error
