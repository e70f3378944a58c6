"""Theme of the pictures: colours, matplotlib style, layouts, and elements that several pictures share.

The first colours follow Okabe and Ito (2008), who chose them to be distinguishable with any colour vision. Series also
differ in their markers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#1b1f27", "#5b6472", "#d7dce3"
CLOUD = "#a9b1bd"
BLUE, ORANGE, GREEN, PURPLE, RED, SKY = "#0072b2", "#c77700", "#00805d", "#a3558a", "#c44e00", "#3a94c9"
VIOLET, OLIVE = "#5b3fa8", "#7d7d12"

LIGHT = {
    "ink": INK,
    "muted": MUTED,
    "rule": RULE,
    "cloud": CLOUD,
    "blue": BLUE,
    "orange": ORANGE,
    "green": GREEN,
    "purple": PURPLE,
    "red": RED,
    "sky": SKY,
    "violet": VIOLET,
    "olive": OLIVE,
}
"""Colours of the light page by the name of their CSS variable. Pictures are drawn in these."""

DARK = {
    "ink": "#e8eaee",
    "muted": "#a4adba",
    "rule": "#363c47",
    "cloud": "#5d6675",
    "blue": "#56b4e9",
    "orange": "#f0a830",
    "green": "#2fc49a",
    "purple": "#e29ac8",
    "red": "#ff8a4c",
    "sky": "#8fd0f5",
    "violet": "#a48cf0",
    "olive": "#c9c94a",
}
"""Colours of the dark page, by the same names as ``LIGHT``."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "*")

SERIES = tuple(zip((BLUE, ORANGE, GREEN, PURPLE, RED, SKY, INK, VIOLET, OLIVE), MARKERS, strict=True))
"""Colour and marker of each series of a picture, in order: one for the best architectures and one a baseline."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.markersize": 5,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a metric's name with a dollar sign is no formula
}


@dataclass(frozen=True)
class Layout:
    """Size of a picture.

    Attributes:
        name: ``wide`` or ``narrow``.
        width: width in inches of 96 pixels on the page.
        columns: largest number of panels side by side.
    """

    name: str
    width: float
    columns: int

    @property
    def narrow(self) -> bool:
        """True for the layout of narrow pages."""
        return self.columns == 1

    def panels(self, count: int, height: float) -> "tuple[Figure, list[Axes]]":
        """A figure and its ``count`` panels, row by row; ``height`` is that of one panel in inches."""
        from matplotlib.figure import Figure

        columns = min(count, self.columns)
        rows = -(-count // columns)
        figure = Figure(figsize=(self.width, rows * height), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for empty in axes[count:]:
            empty.remove()
        return figure, axes[:count]


WIDE, NARROW = Layout("wide", 7.6, 2), Layout("narrow", 3.55, 1)


def legend_above(figure: "Figure", axes: "Axes", layout: Layout) -> None:
    """Add one legend for all panels, above them; ``axes`` is a panel that has all series."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2 if layout.narrow else 4, borderaxespad=0)


def plain_log_axis(axis: Any) -> None:
    """Label a logarithmic axis with a few plain numbers instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 3, 4, 5, 7), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
