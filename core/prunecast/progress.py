"""Progress on stderr: bars with rate and remaining time on a terminal, plain lines elsewhere, nothing if quiet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from tqdm import tqdm

from prunecast.text import visible

LINE_SECONDS = 60.0
"""Minimum time between two progress lines in seconds, if there is no bar."""


class Advance(Protocol):
    """Advances a bar by a number of steps; ``note`` says who is at work."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Advance the bar."""


@dataclass(frozen=True)
class Progress:
    """Progress output of a run.

    Attributes:
        quiet: True to print nothing.
    """

    quiet: bool = False

    def say(self, message: str) -> None:
        """Print one line to stderr; hidden characters are escaped.

        A run goes on without its progress where stderr cannot be written any more.
        """
        if not self.quiet:
            with suppress(OSError):
                tqdm.write(visible(message), file=sys.stderr)

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        """Progress bar of ``total`` steps.

        Yields a function that advances the bar by a number of steps. Without a terminal it prints a line at most every
        ``LINE_SECONDS``.
        """
        if self.quiet or not sys.stderr.isatty():
            yield self._by_lines(what, total, unit)
            return
        with tqdm(total=total, desc=what, unit=unit, leave=False, file=sys.stderr) as shown:

            def advance(steps: int, note: str = "") -> None:
                shown.set_postfix_str(note, refresh=False)
                shown.update(steps)

            yield advance

    def _by_lines(self, what: str, total: int, unit: str) -> Advance:
        done, start, said = 0, time.monotonic(), time.monotonic()

        def advance(steps: int, note: str = "") -> None:
            nonlocal done, said
            done, now = done + steps, time.monotonic()
            if now - said >= LINE_SECONDS and 0 < done < total:
                said, left = now, (now - start) * (total - done) / done
                about = f"about {tqdm.format_interval(left)} left"
                self.say(f"{what}: {done:,} of {total:,} {unit}, {', '.join(filter(None, [about, note]))}")

        return advance
