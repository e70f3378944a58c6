"""prunecast: structured pruning of causal language models, searched with an accuracy predictor (arXiv 2309.09507)."""

from importlib.metadata import version

__version__ = version("prunecast")
