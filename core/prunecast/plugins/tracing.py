"""Tracing of hook calls to stderr."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pluggy


def hook_tracer() -> tuple[Callable[..., None], Callable[..., None]]:
    """Callbacks for pluggy, before and after each hook call, that print the call with arguments and time to stderr."""
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
        shown = ", ".join(f"{name}={value!r:.200}" for name, value in arguments.items())
        result = repr(outcome.exception) if outcome.exception else f"{outcome.get_result()!r:.400}"
        owners = ", ".join(implementation.plugin_name for implementation in implementations)
        print(f"trace: {hook}({shown}) of {owners}: {result} in {milliseconds:.1f} ms", file=sys.stderr)

    return before, after
