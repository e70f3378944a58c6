"""Importers: architectures read from text files and from the configuration files of other pruning tools."""

from prunecast.architecture.formats.darwinlm import from_darwinlm
from prunecast.architecture.formats.evopress import from_evopress
from prunecast.architecture.formats.imported import Imported
from prunecast.architecture.formats.puzzletron import from_puzzletron
from prunecast.architecture.formats.text import from_text

__all__ = ["Imported", "from_darwinlm", "from_evopress", "from_puzzletron", "from_text"]
