"""Pictures as SVG that takes its colours from the page, or as PNG."""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunecast.report.section import Picture
from prunecast.report.theme import LIGHT, STYLE, WIDE, Layout

_PNG_DPI = 150


def svg(picture: Picture, layout: Layout) -> str:
    """A picture as an ``<svg>`` element that needs nothing but the page's style sheet."""
    with _styled(picture):
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        picture.draw(layout).savefig(buffer, format="svg", transparent=True, metadata=metadata)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for name, colour in LIGHT.items():
        drawn = re.sub(colour, f"var(--{name})", drawn, flags=re.IGNORECASE)
    prefix = f"{picture.name}-{layout.name}-"
    drawn = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", drawn)
    drawn = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1system-ui, sans-serif", drawn)
    drawn = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", drawn, count=1)
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, count=1, flags=re.DOTALL)
    label = html.escape(picture.alt, quote=True)
    return drawn.replace("<svg ", f'<svg class="{layout.name}" role="img" aria-label="{label}" ', 1).strip()


def png(picture: Picture, path: Path) -> None:
    """Write a picture as a PNG file on white."""
    with _styled(picture):
        picture.draw(WIDE).savefig(path, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": None})


@contextmanager
def _styled(picture: Picture) -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": picture.name}):
        yield
