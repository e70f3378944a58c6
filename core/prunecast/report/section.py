"""The parts of a page: text, tables and pictures, before they are HTML."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from prunecast.report.theme import Layout


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        caption: what it shows.
        columns: headings.
        rows: cells as they are to be read, as many as there are headings.
        folded: whether it is closed until the reader opens it.
        prose: whether its cells are text rather than numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture of numbers that also stand in a table.

    Attributes:
        name: of its file, without suffix.
        alt: what it shows, for those who do not see it.
        caption: how to read it.
        draw: draws it in a layout.
    """

    name: str
    alt: str
    caption: str
    draw: "Callable[[Layout], Figure]"


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        title: its heading.
        text: paragraphs.
        picture: at most one.
        tables: in order.
        verbatim: text shown as it is, or None.
    """

    title: str
    text: Sequence[str] = ()
    picture: Picture | None = None
    tables: Sequence[Table] = field(default=())
    verbatim: str | None = None

    @property
    def anchor(self) -> str:
        """Name to link to."""
        return self.title.lower().replace(" ", "-")
