"""Another Python process with another hash seed, in which a law can be tried."""

import atexit
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from prunecast.plugins.local import LOCAL
from prunecast.testing.checks import DoesNotApply, LawBroken

Result = TypeVar("Result")

# Results go through a copy of the original stdout, so that whatever a plugin prints cannot mix with them.
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


def call_elsewhere(plugin: type[Any], function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function returns in another process with another hash seed.

    Args:
        plugin: the class on trial; it has to be importable by name in the other process.
        function: a function at the top level of a module; it and its arguments are pickled.

    Raises:
        DoesNotApply: the plugin is defined inside a function or in the main module, so nobody else can import it.
        LawBroken: the function raised there, with the last line of why.
    """
    if plugin.__module__ == "__main__" or "<locals>" in plugin.__qualname__:
        raise DoesNotApply(f"{plugin.__qualname__} is not at the top level of an importable module")
    process = _other_process()
    try:
        call = (sys.path, _importing(plugin.__module__), pickle.dumps((function, arguments)))
        pickle.dump(call, process.stdin)  # type: ignore[arg-type]
        process.stdin.flush()  # type: ignore[union-attr]
        succeeded, answer = pickle.load(process.stdout)  # type: ignore[arg-type]
    except (EOFError, BrokenPipeError) as error:
        _other_process.cache_clear()
        raise LawBroken("the other process died without a word") from error
    if not succeeded:
        raise LawBroken(f"in another process: {answer.strip().splitlines()[-1]}")
    result: Result = answer
    return result


@cache
def _other_process() -> "subprocess.Popen[bytes]":
    """The process, started once: importing torch takes seconds."""
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
    """The statement that imports a module in another process: a local plugin's name says nothing there."""
    if not module.startswith(LOCAL):
        return f"import {module}"
    file = sys.modules[module].__file__
    return f"import pathlib, prunecast.plugins.host; prunecast.plugins.local.import_file({module!r}, pathlib.Path({file!r}))"


def heavy_imports(module: str, heavy: frozenset[str]) -> list[str]:
    """Which of the ``heavy`` modules a fresh process has imported once it has imported ``module``."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import prunecast.plugins.host; before = set(sys.modules); "
        f"{_importing(module)}; print(*sorted((set(sys.modules) - before) & {set(heavy)!r}), file=sys.__stderr__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise LawBroken(f"{module} cannot be imported in a fresh process: {done.stderr.strip().splitlines()[-1]}")
    return done.stderr.split() if done.stderr.strip() else []
