"""The rule for relative paths: in a spec they start from its folder, on the command line from the current folder."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Places of the files and folders that a spec names.

    Earlier versions took some relative paths from the other of the two folders; what is only there is found there.

    Attributes:
        folder: folder that relative paths of the spec start from.
        typed: values given on the command line (``--set``), whose relative paths start from the current folder.
    """

    folder: Path
    typed: frozenset[str] = frozenset()

    def find(self, written: str) -> Path:
        """Path of a file or folder as written in the spec, ``~`` expanded."""
        right, other = self._places(written)
        return other if _only_at(other, right) else right

    def note(self, written: str) -> str | None:
        """Sentence about a path that is found where earlier versions looked, not by the rule; None for any other."""
        right, other = self._places(written)
        if not _only_at(other, right):
            return None
        return f"{written} is not at {right.absolute()}, but at {other.absolute()}, where earlier versions looked"

    def _places(self, written: str) -> tuple[Path, Path]:
        """Place of a path by the rule, and the other place."""
        path = Path(os.path.expanduser(written))
        # A data set may be followed by the name of a column.
        typed = any(value == written or value.startswith(f"{written}#") for value in self.typed)
        return (path, self.folder / path) if typed else (self.folder / path, path)


def _only_at(other: Path, right: Path) -> bool:
    return other != right and os.path.exists(other) and not os.path.exists(right)
