"""Section "Layers": shares of query heads and MLP channels that each layer keeps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from prunecast.architecture.architecture import Floats
from prunecast.architecture.encodings import kept_fractions
from prunecast.report.facts import Facts, Row
from prunecast.report.section import Picture, Section, Table
from prunecast.report.theme import Layout
from prunecast.text import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = "Blues"
_EVERY = 5
"""Every fifth layer is labelled."""


def section(facts: Facts) -> Section:
    """Section with a heat map of the best and the baselines of the run."""
    rows = _distinct([facts.best, *facts.baselines])
    kept = kept_fractions([row.architecture for row in rows], facts.shape)
    shares = {"query heads": kept[:, 0::2], "MLP channels": kept[:, 1::2]}
    text = (
        "Best architecture, as KV groups x query heads per group + MLP width of each layer (* repeats equal layers): "
        f"{facts.best.architecture}"
    )
    return Section("Layers", [text], _picture(rows, shares), [_table(rows, *part) for part in shares.items()])


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Rows of different architectures; rows with the same name get their parameter count as a suffix."""
    different = list({row.architecture: row for row in reversed(rows)}.values())[::-1]
    names = [row.name for row in different]
    return [
        row if names.count(row.name) == 1 else replace(row, name=f"{row.name} {row.parameters / 1e6:.1f} M")
        for row in different
    ]


def _table(rows: Sequence[Row], part: str, shares: Floats) -> Table:
    cells = [[str(layer), *map(percent, column)] for layer, column in enumerate(shares.T.tolist())]
    columns = ("layer", *(row.name for row in rows))
    return Table(f"Share of {part} that each layer keeps", columns, cells, folded=True)


def _picture(rows: Sequence[Row], shares: dict[str, Floats]) -> Picture:
    def draw(layout: Layout) -> "Figure":
        return _heat_map(layout, [row.name for row in rows], shares)

    names = ", ".join(row.name for row in rows)
    return Picture(
        "layers",
        f"Heat map of the share of query heads and of MLP channels that each layer keeps, for {names}.",
        "Share of query heads and of MLP channels that each layer keeps.",
        draw,
    )


def _heat_map(layout: Layout, names: Sequence[str], shares: dict[str, Floats]) -> "Figure":
    """Draw shares of shape (N, L), by part; layers run from left to right, on a narrow page from top to bottom."""
    from matplotlib.figure import Figure

    depth = next(iter(shares.values())).shape[1]
    height = 2.2 + 0.12 * depth if layout.narrow else 1.2 + 0.5 * len(names)
    figure = Figure(figsize=(layout.width, height), layout="constrained")
    grid = (1, 2) if layout.narrow else (2, 1)
    panels = list(figure.subplots(*grid, sharex=not layout.narrow, sharey=layout.narrow))
    for axes, (part, values) in zip(panels, shares.items(), strict=True):
        cells = 100 * (values.T if layout.narrow else values)
        image = axes.pcolormesh(cells, cmap=_COLOURS, vmin=0, vmax=100, edgecolors="face", linewidth=0.2)
        architectures, layers = (axes.xaxis, axes.yaxis) if layout.narrow else (axes.yaxis, axes.xaxis)
        architectures.set_ticks(np.arange(len(names)) + 0.5, names, rotation=90 if layout.narrow else 0)
        layers.set_ticks(np.arange(0, depth, _EVERY) + 0.5, [str(layer) for layer in range(0, depth, _EVERY)])
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(part)
    for axes in panels if not layout.narrow else panels[:1]:
        axes.invert_yaxis()
    (panels[0].set_ylabel if layout.narrow else panels[1].set_xlabel)("layer")
    bar = figure.colorbar(image, ax=panels, location="bottom" if layout.narrow else "right", label="kept, %")
    bar.outline.set_visible(False)
    return figure
