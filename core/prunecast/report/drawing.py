"""Rendering of pictures: SVG that takes its colours from the page, and PNG.

Pictures are drawn in the colours of the light page. In the SVG each of them becomes a variable of the page's style
sheet, so that one drawing serves light and dark pages.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunecast.report.section import Picture
from prunecast.report.theme import LIGHT, STYLE, WIDE, Layout
from prunecast.text import visible

_PNG_DPI = 150


def svg(picture: Picture, layout: Layout) -> str:
    """A picture as an ``<svg>`` element; it depends on the page's style sheet and on no other file."""
    with _styled(picture):
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # None leaves an entry out
        picture.draw(layout).savefig(buffer, format="svg", transparent=True, metadata=metadata)
    drawn = visible(buffer.getvalue(), keep="\n\t")
    drawn = drawn[drawn.index("<svg") :]
    for name, colour in LIGHT.items():
        drawn = re.sub(colour, f"var(--{name})", drawn, flags=re.IGNORECASE)
    # A page holds several drawings, and ids are global in it.
    prefix = f"{picture.name}-{layout.name}-"
    drawn = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", drawn)
    drawn = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1system-ui, sans-serif", drawn)
    # Without a fixed size the style sheet can fit the drawing to the page.
    drawn = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", drawn, count=1)
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, count=1, flags=re.DOTALL)
    label = html.escape(visible(picture.alt), quote=True)
    return drawn.replace("<svg ", f'<svg class="{layout.name}" role="img" aria-label="{label}" ', 1).strip()


def png(picture: Picture, path: Path) -> None:
    """Write a picture as a PNG file with a white background."""
    with _styled(picture):
        picture.draw(WIDE).savefig(path, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": None})


@contextmanager
def _styled(picture: Picture) -> Iterator[None]:
    import matplotlib

    # The salt makes the ids in an SVG the same in every process: the same run gives the same page.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": picture.name}), warnings.catch_warnings():
        # A name may have any characters; those that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
