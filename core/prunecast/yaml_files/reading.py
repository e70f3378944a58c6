"""Reading of a YAML file that a user names: of bounded size, and UTF-8."""

from pathlib import Path

from prunecast.errors import SpecError
from prunecast.yaml_files.document import Place, Problem

MOST_BYTES = 2**20
"""Largest size of a file."""


def read_text(path: Path, noun: str = "a spec") -> str:
    """Text of a file.

    Args:
        path: the file.
        noun: what it should be, for messages.

    Raises:
        SpecError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)  # a device may have no end
    except OSError as error:
        message = f"cannot be read: {error.strerror}; write the path of a readable YAML file"
        raise SpecError([str(Problem(Place(str(path), 1, 1), (), message))]) from error
    if len(raw) > MOST_BYTES:
        message = f"larger than {MOST_BYTES:,} bytes: name the file of {noun}"
        raise SpecError([str(Problem(Place(str(path), 1, 1), (), message))])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        place = Place(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise SpecError([str(Problem(place, (), message))]) from error
