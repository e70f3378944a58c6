"""The commands of ``prunecast registry``, one module a topic."""
