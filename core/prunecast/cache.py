"""The cache: a folder of what can be made again."""

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_dir() -> Path:
    """Folder of what can be made again: ``PRUNECAST_CACHE``, else the user's cache folder. Need not exist yet."""
    named = os.environ.get("PRUNECAST_CACHE")
    return Path(named).expanduser() if named else Path(user_cache_dir("prunecast"))
