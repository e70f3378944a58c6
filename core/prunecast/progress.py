"""Progress on stderr: bars with rate and time left on a terminal, plain lines elsewhere, nothing if quiet."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm

LINE_SECONDS = 60.0
"""Time between two lines where there is no bar."""


@dataclass(frozen=True)
class Progress:
    """Where a run tells what it is doing.

    Attributes:
        quiet: say nothing at all.
    """

    quiet: bool = False

    def say(self, message: str) -> None:
        """One line on stderr."""
        if not self.quiet:
            tqdm.write(message, file=sys.stderr)

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A bar of ``total`` steps; yields the function that advances it. Without a terminal, a line a minute."""
        if self.quiet or not sys.stderr.isatty():
            yield self._by_lines(what, total, unit)
            return
        with tqdm(total=total, desc=what, unit=unit, leave=False, file=sys.stderr) as shown:

            def advance(steps: int) -> None:
                shown.update(steps)

            yield advance

    def _by_lines(self, what: str, total: int, unit: str) -> Callable[[int], None]:
        done, start, said = 0, time.monotonic(), time.monotonic()

        def advance(steps: int) -> None:
            nonlocal done, said
            done, now = done + steps, time.monotonic()
            if now - said >= LINE_SECONDS and 0 < done < total:
                said, left = now, (now - start) * (total - done) / done
                self.say(f"{what}: {done:,} of {total:,} {unit}, about {tqdm.format_interval(left)} left")

        return advance
