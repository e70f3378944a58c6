"""Configurations that other tools write, read as architectures that can be measured here."""

from prunecast.importers.darwinlm import from_darwinlm
from prunecast.importers.evopress import from_evopress
from prunecast.importers.imported import Imported
from prunecast.importers.puzzletron import from_puzzletron
from prunecast.importers.text import from_text

__all__ = ["Imported", "from_darwinlm", "from_evopress", "from_puzzletron", "from_text"]
