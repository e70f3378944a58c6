"""Findings: what was looked at, and whether it is fit for a run."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from prunecast.errors import one_line

State = Literal["ok", "warning", "broken"]
"""ok; something a run can do without, or that slows it down; something that stops it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: whether it is fit.
        subject: what it is, in a word or two; the same on every machine.
        text: what was found, in one line; what to do, unless it is ok.
    """

    state: State
    subject: str
    text: str

    def to_json(self) -> dict[str, str]:
        """JSON-able form."""
        return asdict(self)


def findings_of(subject: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Findings of a look, and one more, which is broken, if it fails: a doctor tells of errors that stop others."""
    try:
        yield from look()
    # A damaged installation fails in any way.
    except Exception as error:  # noqa: BLE001
        yield Finding("broken", subject, f"{type(error).__name__}: {one_line(error)}")
