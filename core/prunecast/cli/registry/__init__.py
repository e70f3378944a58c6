"""Commands of ``prunecast registry``, one module per topic."""
