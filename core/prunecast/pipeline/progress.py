"""Progress on stderr: bars with rate and time left on a terminal, plain lines elsewhere, nothing if quiet."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm


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
        """A bar of ``total`` steps; yields the function that advances it. Hidden unless stderr is a terminal."""
        hidden = self.quiet or not sys.stderr.isatty()
        with tqdm(total=total, desc=what, unit=unit, disable=hidden, leave=False, file=sys.stderr) as shown:

            def advance(steps: int) -> None:
                shown.update(steps)

            yield advance
