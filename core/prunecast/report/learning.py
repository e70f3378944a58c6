"""Section "Learning curve": quality of the predictor over the number of pairs it is fitted on."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prunecast.report.facts import Facts
from prunecast.report.section import Picture, Section, Table
from prunecast.report.theme import BLUE, MARKERS, ORANGE, Layout, legend_above

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def section(facts: Facts) -> Section:
    """Section with the learning curve."""
    points = (facts.result.get("quality_card") or {}).get("learning_curve", ())
    if len(points) < 2:
        return Section("Learning curve", ["This run has too few pairs for a learning curve."])
    rows = [[str(point["pairs"]), f"{point['r2']:.3f}", f"{point['kendall_tau']:.3f}"] for point in points]
    table = Table(
        "Quality on the same held-out pairs by number of pairs fitted on",
        ("pairs fitted on", "R²", "Kendall tau"),
        rows,
    )
    text = (
        "R² is the mean over the metrics, Kendall's tau that of the objective; both are means over the same random "
        "splits."
    )
    return Section("Learning curve", [text], _picture(points), [table])


def _picture(points: Sequence[Mapping[str, Any]]) -> Picture:
    def draw(layout: Layout) -> "Figure":
        figure, (axes,) = layout.panels(1, 2.8)
        pairs = [point["pairs"] for point in points]
        for key, label, colour, marker in (
            ("r2", "R²", BLUE, MARKERS[0]),
            ("kendall_tau", "Kendall tau", ORANGE, MARKERS[1]),
        ):
            axes.plot(pairs, [point[key] for point in points], color=colour, marker=marker, label=label)
        axes.set(xlabel="pairs fitted on", xscale="log", xticks=pairs, xticklabels=[str(count) for count in pairs])
        axes.minorticks_off()
        axes.set_ylim(min(0.0, *(point[key] for point in points for key in ("r2", "kendall_tau"))), 1)
        legend_above(figure, axes, layout)
        return figure

    alt = "R squared and Kendall's tau on held-out pairs over the number of pairs fitted on."
    return Picture(
        "learning", alt, "Quality on held-out pairs over the number of pairs the predictor is fitted on.", draw
    )
