"""Calls in a Python subprocess with another hash seed, for checks of reproducibility."""

import atexit
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from prunecast.plugins.local import LOCAL
from prunecast.testing.checks import CheckFailed, DoesNotApply

Result = TypeVar("Result")

# Results go through a copy of the original stdout, so that output of a plugin cannot mix with them.
_LOOP = """
import os, pickle, sys, traceback
results = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
while True:
    try:
        sys.path[:], importing, call = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        exec(importing)
        function, arguments = pickle.loads(call)
        answer = (True, function(*arguments))
    except BaseException:
        answer = (False, traceback.format_exc())
    pickle.dump(answer, results)
    results.flush()
"""


def call_in_subprocess(plugin: type[Any], function: Callable[..., Result], *arguments: Any) -> Result:
    """Result of a function in a subprocess with another hash seed.

    Args:
        plugin: class under test; it has to be importable by name in the subprocess.
        function: function at the top level of a module; it is pickled with its arguments.
        arguments: positional arguments of the function.

    Raises:
        DoesNotApply: the plugin is defined inside a function or in the main module, so no subprocess can import it.
        CheckFailed: the subprocess ended, or the function raised, with the last line of its traceback.
    """
    if plugin.__module__ == "__main__" or "<locals>" in plugin.__qualname__:
        raise DoesNotApply(f"{plugin.__qualname__} is not at the top level of an importable module")
    process = _subprocess()
    try:
        call = (sys.path, _importing(plugin.__module__), pickle.dumps((function, arguments)))
        pickle.dump(call, process.stdin)  # type: ignore[arg-type]
        process.stdin.flush()  # type: ignore[union-attr]
        succeeded, answer = pickle.load(process.stdout)  # type: ignore[arg-type]
    except (EOFError, BrokenPipeError) as error:
        _subprocess.cache_clear()
        raise CheckFailed("the subprocess ended without a result") from error
    if not succeeded:
        raise CheckFailed(f"in a subprocess: {answer.strip().splitlines()[-1]}")
    result: Result = answer
    return result


@cache
def _subprocess() -> "subprocess.Popen[bytes]":
    """The subprocess, started once and reused, because importing torch takes seconds."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    process = subprocess.Popen(
        [sys.executable, "-c", _LOOP],
        env=os.environ | {"PYTHONHASHSEED": seed},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(process.kill)
    return process


def _importing(module: str) -> str:
    """Statement that imports a module in a subprocess; local plugins are imported from their file, not by name."""
    if not module.startswith(LOCAL):
        return f"import {module}"
    file = sys.modules[module].__file__
    call = f"import_file({module!r}, pathlib.Path({file!r}))"
    return f"import pathlib; from prunecast.plugins.local import import_file; {call}"


def heavy_imports(module: str, heavy: frozenset[str]) -> list[str]:
    """Modules out of ``heavy`` that importing ``module`` imports in a fresh process, sorted."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import prunecast.plugins.host; before = set(sys.modules); "
        f"{_importing(module)}; print(*sorted((set(sys.modules) - before) & {set(heavy)!r}), file=sys.__stderr__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise CheckFailed(f"{module} cannot be imported in a fresh process: {done.stderr.strip().splitlines()[-1]}")
    return done.stderr.split() if done.stderr.strip() else []
