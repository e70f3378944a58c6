"""The cache: a folder of files that can be recomputed or downloaded again, which need not be writable."""

import atexit
import logging
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from platformdirs import user_cache_dir

from prunecast.errors import ResourceError

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Cache folder: ``PRUNECAST_CACHE`` if set, else the user's cache folder of the platform. It may not exist yet."""
    named = os.environ.get("PRUNECAST_CACHE")
    return Path(os.path.expanduser(named) if named else user_cache_dir("prunecast"))


def cached(*parts: str) -> Path:
    """Path of an entry of the cache that is there, or can be written: its folder exists.

    Where the cache does not have it and cannot be written, the path is in a temporary folder that is removed when the
    process ends, and one warning names the variable to set.

    Raises:
        ResourceError: there is no folder for temporary files either.
    """
    path = cache_dir().joinpath(*parts)
    if os.path.exists(path):  # Path.exists raises an error where a folder may not be searched
        return path
    if reason := obstacle(path.parent):
        _warn_once(cache_dir(), reason)
        path = _temporary_folder().joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def check_temporary_files() -> None:
    """Raise ResourceError if no folder for temporary files can be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ResourceError("no folder for temporary files can be written: set TMPDIR to one that can") from error


def allow_modules_of_models() -> None:
    """Let transformers copy the code of models to a temporary folder if the one in ``HF_HOME`` cannot be written."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    named = os.environ.get("HF_MODULES_CACHE") or os.path.join(home, "modules")
    if obstacle(Path(os.path.expanduser(os.path.expandvars(named)))):
        folder = os.environ["HF_MODULES_CACHE"] = str(_temporary_folder() / "modules")
        # The variable is read when transformers is imported.
        if loaded := sys.modules.get("transformers.dynamic_module_utils"):
            loaded.HF_MODULES_CACHE = folder  # type: ignore[attr-defined]


def obstacle(folder: Path) -> str:
    """Reason why no file can be written to a folder, which need not exist yet; empty if one can."""
    if str(folder).startswith("~"):
        return "there is no home folder"
    nearest = next(place for place in (folder, *folder.parents) if os.path.exists(place))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


@cache
def _warn_once(folder: Path, reason: str) -> None:
    _log.warning(
        "warning: the cache %s cannot be written (%s): its files are kept for this process only; set PRUNECAST_CACHE "
        "to a folder that can be written",
        folder,
        reason,
    )


@cache
def _temporary_folder() -> Path:
    check_temporary_files()
    folder = tempfile.mkdtemp(prefix="prunecast-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
