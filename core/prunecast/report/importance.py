"""Section "Importance": importance of layers and components (figure 2 of arXiv 2309.09507), and the refined space."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prunecast.report.facts import Compared, Facts, MetricFacts
from prunecast.report.section import Picture, Section, Table
from prunecast.report.theme import BLUE, GREEN, MARKERS, ORANGE, Layout, legend_above
from prunecast.text import listed, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COMPONENTS = {
    "attention": ("attention", BLUE, MARKERS[0]),
    "mlp": ("MLP", ORANGE, MARKERS[1]),
    "layer": ("whole layer", GREEN, MARKERS[2]),
}


MOST = 4
"""Number of layers that are named as those that matter."""


def layers_that_matter(run: Compared) -> str:
    """The layers with the largest importances, in a sentence; empty for a run without importances."""
    found = run.result.get("importances") or []
    shares: dict[int, float] = {}
    for component in ("attention", "mlp", "layer"):
        for metric in run.searched:
            for layer, share in _by_layer(found, component, metric.name).items():
                shares[layer] = shares.get(layer, 0.0) + share / len(run.searched)
    first = sorted(shares, key=lambda layer: -shares[layer])[:MOST]
    if not first:
        return ""
    named = listed([f"{layer} ({percent(shares[layer])})" for layer in first])
    verb = "layer that matters most, by its" if len(first) == 1 else "layers that matter most, by their"
    return f"The {verb} share of the predictor's importances, {'is' if len(first) == 1 else 'are'} {named}."


def section(facts: Facts) -> Section:
    """Section on the importances, and on the refinement of the space if there was one."""
    found = facts.result.get("importances")
    if not found:
        return Section("Importance", ["The result of this run has no importances: an earlier version wrote it."])
    text = [
        "Importance of each choice according to the predictor after its last fit, as a share of the total importance. "
        + layers_that_matter(facts)
    ]
    tables = [_table(facts.searched, found)]
    refinement = facts.result.get("refinement")
    if refinement:
        text.append(
            "After the first fit the space was refined: narrowed to lower pruning rates for the most important choices "
            "and widened to higher ones for the least important."
        )
        tables.append(_refined(refinement))
    return Section("Importance", text, _picture(facts.searched, found), tables)


def _table(metrics: Sequence[MetricFacts], found: Sequence[Mapping[str, Any]]) -> Table:
    rows = [[each["choice"], *(percent(each["shares"][metric.name]) for metric in metrics)] for each in found]
    caption = "Importance of each choice, as a share of the total"
    return Table(caption, ("choice", *(metric.name for metric in metrics)), rows, folded=True)


def _refined(refinement: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [str(change["rank"]), change["choice"], change["action"], *map(_values, _sides(change)), change["reason"]]
        for change in sorted(refinement, key=lambda change: int(change["rank"]))
    ]
    columns = ("rank", "choice", "", "values before", "values after", "reason")
    return Table("Refinement of the space, most important choice first", columns, rows, folded=True, prose=True)


def _sides(change: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    return change["before"], change["after"]


def _values(values: Sequence[Any]) -> str:
    return " ".join("x".join(map(str, value)) if isinstance(value, list) else str(value) for value in values)


def _picture(metrics: Sequence[MetricFacts], found: Sequence[Mapping[str, Any]]) -> Picture:
    def draw(layout: Layout) -> "Figure":
        from matplotlib.ticker import MaxNLocator

        figure, panels = layout.panels(len(metrics), 2.7)
        for axes, metric in zip(panels, metrics, strict=True):
            for component, (label, colour, marker) in _COMPONENTS.items():
                if shares := _by_layer(found, component, metric.name):
                    percents = [100 * share for share in shares.values()]
                    axes.plot(list(shares), percents, color=colour, marker=marker, label=label)
            axes.set(title=metric.name, xlabel="layer", ylabel="importance, %")
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_above(figure, panels[0], layout)
        return figure

    names = ", ".join(metric.name for metric in metrics)
    return Picture(
        "importance",
        f"Importance of the attention and of the MLP of each layer for {names}.",
        "Importance of the attention and the MLP of each layer in percent of the total; neighbouring layers that are "
        "one choice share its importance evenly. Layers without a point are not pruned.",
        draw,
    )


def _by_layer(found: Sequence[Mapping[str, Any]], component: str, metric: str) -> dict[int, float]:
    shares = {
        layer: each["shares"][metric] / len(each["layers"])
        for each in found
        if each["component"] == component
        for layer in each["layers"]
    }
    return dict(sorted(shares.items()))
