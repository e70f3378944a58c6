"""Models in Python distributions: ``.gguf`` files, whole or in chunks, found by metadata; nothing is imported."""

import hashlib
import importlib.metadata
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prunecast.cache import cached
from prunecast.errors import ModelError
from prunecast.models.loading import check_disk
from prunecast.owned.files import sync, written_whole
from prunecast.text import amounts

_log = logging.getLogger(__name__)

_CHUNK = re.compile(r".+\.gguf(\.part\d+)?", re.IGNORECASE)
"""Name of a ``.gguf`` file, or of a chunk of one."""

_BLOCK = 2**20
"""Number of bytes copied at a time."""


@dataclass(frozen=True)
class Distributed:
    """A ``.gguf`` file in a Python distribution, or in chunks in the distributions that this one depends on.

    Attributes:
        name: name of the distribution.
        version: version of all of them.
        chunks: names of the distributions with a chunk each, in order; none if the file is whole, in ``name``.
        sha256: SHA-256 of a file in chunks, 64 hexadecimal digits.
    """

    name: str
    version: str
    chunks: tuple[str, ...] = ()
    sha256: str = ""

    def file(self, alias: str) -> Path:
        """The ``.gguf`` file. One in chunks is put together in the cache, once.

        Args:
            alias: name of the model, for messages and the file.

        Raises:
            ModelError: a distribution is missing or damaged, the chunks have another hash, or the disk has no room.
        """
        if not self.chunks:
            return self._found((self.name,), alias)[0]
        # The hash is the folder's name, so a file in it has been checked.
        path = cached("distributions", self.sha256, f"{alias}.gguf")
        if not path.is_file():
            self._put_together(self._found(self.chunks, alias), path, alias)
        return path

    def _found(self, names: Sequence[str], alias: str) -> list[Path]:
        """The file, or chunk, in each of some distributions."""
        listed = {name: _files_of(name) for name in names}
        if missing := [name for name, files in listed.items() if files is None]:
            alone = "" if self.chunks else "--no-deps "
            raise ModelError(
                f"model {alias}: not installed: {', '.join(missing)}; install with: "
                f"pip install {alone}{self.name}=={self.version}"
            )
        found = {name: next((file for file in files or () if file.is_file()), None) for name, files in listed.items()}
        if empty := [name for name, file in found.items() if file is None]:
            raise ModelError(f"model {alias}: no .gguf file in {', '.join(empty)}; {self._reinstall(empty)}")
        return [file for file in found.values() if file is not None]

    def _put_together(self, chunks: Sequence[Path], path: Path, alias: str) -> None:
        needed = sum(chunk.stat().st_size for chunk in chunks)
        check_disk(needed, path.parent, alias)
        _log.info("putting %s together once, %s in %s", alias, *amounts(needed), path.parent)
        with written_whole(path) as unfinished:
            sha256 = _join(chunks, unfinished)
            if sha256 != self.sha256:
                raise ModelError(
                    f"model {alias}: SHA-256 of its {len(chunks)} chunks together is {sha256}, expected {self.sha256}; "
                    f"{self._reinstall(self.chunks)}"
                )
            sync(unfinished)

    def _reinstall(self, names: Sequence[str]) -> str:
        requirements = " ".join(f"{name}=={self.version}" for name in names)
        return f"install again with: pip install --force-reinstall --no-deps {requirements}"


def _files_of(distribution: str) -> list[Path] | None:
    """Files and chunks that a distribution lists; None if it is not installed."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return [Path(str(file.locate())) for file in files if _CHUNK.fullmatch(file.name)]


def _join(chunks: Sequence[Path], path: Path) -> str:
    """Write chunks one after the other to a file. Returns the SHA-256 of all."""
    digest = hashlib.sha256()
    with path.open("wb") as whole:
        for chunk in chunks:
            with chunk.open("rb") as part:
                while block := part.read(_BLOCK):
                    digest.update(block)
                    whole.write(block)
    return digest.hexdigest()
