"""Sections of a page, with their tables and pictures, before they are rendered as HTML."""

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
        caption: caption above the table.
        columns: headings.
        rows: formatted cells, as many per row as there are headings.
        folded: True if the table is collapsed until the reader opens it.
        prose: True if the cells are text rather than numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture of numbers that a table of the same section holds, too.

    Attributes:
        name: name of its file, without suffix.
        alt: alternative text for screen readers.
        caption: explanation of the picture.
        draw: draws the picture in a layout.
    """

    name: str
    alt: str
    caption: str
    draw: "Callable[[Layout], Figure]"


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        title: heading.
        text: paragraphs.
        picture: the picture, or None.
        tables: tables in the order of the page.
        verbatim: preformatted text, or None.
    """

    title: str
    text: Sequence[str] = ()
    picture: Picture | None = None
    tables: Sequence[Table] = field(default=())
    verbatim: str | None = None

    @property
    def anchor(self) -> str:
        """Link target within the page."""
        return self.title.lower().replace(" ", "-")
