"""Tracing of hook calls on stderr."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pluggy


def hook_tracer() -> tuple[Callable[..., None], Callable[..., None]]:
    """What prints hook calls with their arguments and times on stderr: called before and after every one."""
    starts: list[float] = []

    def before(hook: str, implementations: list[pluggy.HookImpl], arguments: Mapping[str, Any]) -> None:
        starts.append(time.perf_counter())

    def after(
        outcome: "pluggy.Result[Any]",
        hook: str,
        implementations: list[pluggy.HookImpl],
        arguments: Mapping[str, Any],
    ) -> None:
        milliseconds = 1000 * (time.perf_counter() - starts.pop())
        given = ", ".join(f"{name}={value!r:.200}" for name, value in arguments.items())
        answer = repr(outcome.exception) if outcome.exception else f"{outcome.get_result()!r:.400}"
        owners = ", ".join(implementation.plugin_name for implementation in implementations)
        print(f"trace: {hook}({given}) of {owners}: {answer} in {milliseconds:.1f} ms", file=sys.stderr)

    return before, after
