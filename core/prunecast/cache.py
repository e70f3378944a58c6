"""Location of the cache, a folder of files that can be recomputed or downloaded again."""

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_dir() -> Path:
    """Cache folder: ``PRUNECAST_CACHE`` if set, else the user's cache folder of the platform. It may not exist yet."""
    named = os.environ.get("PRUNECAST_CACHE")
    return Path(named).expanduser() if named else Path(user_cache_dir("prunecast"))
