"""Writes the tables of docs/results and README.md, and the pictures of docs/images, again from registry.db.

Run it as a script, or by ``make results``. A table stands behind a comment that says what it has, as YAML, and its
kind; what follows the comment, to the next ``<!-- end -->``, is written by this module:

    <!-- scores
    metrics: {wikitext2.test.ppl: WikiText-2 test}
    rows:
      - {kept: 80 %, run: 83, show: [uniform-mlp, best: found in two rounds]}
    -->
    | kept | | WikiText-2 test | the run |
    ...
    <!-- end -->

Kinds are ``scores``: candidates of runs with their metrics; ``reductions``: what runs gain over their best uniform
architecture, in percent; ``sizes``: found and uniform architectures of one run, for each of its sizes; ``quality``: the
quality card of the predictor of a run.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from prunecast.registry import Registry

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "results").glob("*.md"))]
PICTURES = {
    "layers": (77, "layers"),
    "predicted": (28, "predicted"),
    "ratios": (28, "ratios"),
    "smollm2": (77, "ratios"),
    "gemma": (93, "layers"),
}
"""Pictures of docs/images, by the run whose report has them, and their name there."""

LABELS = {
    "dense": "dense",
    "uniform": "uniform attention and MLP pruning",
    "uniform-mlp": "uniform MLP pruning",
    "uniform-uncompensated": "uniform attention and MLP pruning, without compensation",
    "uniform-mlp-uncompensated": "uniform MLP pruning, without compensation",
    "evolution": "by real evaluations without a predictor, as in EvoPress",
    "best": "found",
    "recovered": "found, then trained",
}

_TABLE = re.compile(r"(<!-- (scores|reductions|sizes|quality)\s(.*?)-->\n).*?(<!-- end -->)", re.DOTALL)

Result = Mapping[str, Any]
Rows = list[list[str]]


def filled(page: str, result: Callable[[int], Result]) -> str:
    """The text of a page with every table written again; ``result`` gives the recorded result of a run."""
    kinds = {"scores": scores, "reductions": reductions, "sizes": sizes, "quality": quality}

    def table(found: re.Match[str]) -> str:
        head, kind, asked, end = found.groups()
        return f"{head}\n{markdown(kinds[kind](yaml.safe_load(asked), result))}\n\n{end}"

    return _TABLE.sub(table, page)


def scores(asked: Mapping[str, Any], result: Callable[[int], Result]) -> Rows:
    """Candidates with their metrics; among the pruned ones of one ``kept``, the best of a metric is bold."""
    metrics: Mapping[str, str] = asked["metrics"]
    shown = [(row, each) for row in asked["rows"] for each in row["show"]]
    named = [next(iter(each.items())) if isinstance(each, dict) else (each, LABELS[each]) for _, each in shown]
    groups = [row.get("kept") if name != "dense" else name for (row, _), (name, _) in zip(shown, named, strict=True)]
    values = [
        [_value(result(row["run"]), name, metric) for metric in metrics]
        for (row, _), (name, _) in zip(shown, named, strict=True)
    ]
    columns = {
        "kept": _once([row.get("kept", "") for row, _ in shown], ""),
        "": [label for _, label in named],
        **{f"{metrics[m]}:": _bold(m, [row[i] for row in values], groups) for i, m in enumerate(metrics)},
        "the run": _once([f"`prunecast runs show {row['run']}`" for row, _ in shown], "the same"),
    }
    if not any(columns["kept"]):
        del columns["kept"]
    if not asked.get("runs", True):
        del columns["the run"]
    return [list(columns), *map(list, zip(*columns.values(), strict=True))]


def reductions(asked: Mapping[str, Any], result: Callable[[int], Result]) -> Rows:
    """Reduction of a metric relative to the best uniform architecture of the same run, in percent, by size."""
    sizes_of = list(dict.fromkeys(size for row in asked["rows"] for size in row["runs"]))

    def gain(run: int, metric: str) -> str:
        named = result(run)
        best = min(_metric(each, metric) for each in named["baselines"] if each["name"].startswith("uniform"))
        return f"{100 * (1 - _metric(named['best'], metric) / best):.1f}"

    rows = [
        [row["label"], *(gain(row["runs"][size], row["metric"]) if size in row["runs"] else "" for size in sizes_of)]
        for row in asked["rows"]
    ]
    return [["kept", *(f"{size}:" for size in sizes_of)], *rows]


def sizes(asked: Mapping[str, Any], result: Callable[[int], Result]) -> Rows:
    """The best found and the uniform architecture at each size of a run that verifies one architecture a size."""
    named, metrics = result(asked["run"]), asked["metrics"]
    dense = named["dense"]["parameters"]
    rows = []
    for found in sorted(named["verified"], key=lambda each: -each["parameters"]):
        uniform = min(named["baselines"], key=lambda each: abs(each["parameters"] - found["parameters"]))
        cells = [_number(metric, _metric(each, metric)) for metric in metrics for each in (uniform, found)]
        rows.append([f"{100 * found['parameters'] / dense:.1f} %", *cells])
    titles = [f"{title}, {which}:" for title in metrics.values() for which in ("uniform", "found")]
    return [["kept:", *titles], *rows]


def quality(asked: Mapping[str, Any], result: Callable[[int], Result]) -> Rows:
    """Quality of the predictors of runs on held-out pairs: means of the splits, for each metric."""
    rows = []
    for run in asked["runs"]:
        card = result(run)["quality_card"]
        for metric, of_it in {**card["metrics"], "objective": card["objective"]}.items():
            figures = [f"{of_it['r2']:.3f}", f"{of_it['kendall_tau']:.3f}"]
            rows.append([f"`{metric}`", f"{card['pairs']:,}", *figures, f"`prunecast runs show {run}`"])
    return [["", "pairs:", "R2:", "Kendall tau:", "the run"], *rows]


def markdown(rows: Rows) -> str:
    """Markdown table; a column whose title ends in a colon is flush right."""
    titles, *others = rows
    lines = [[title.removesuffix(":") for title in titles], ["---:" if t.endswith(":") else "---" for t in titles]]
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in [*lines, *others])


def _value(result: Result, name: str, metric: str) -> float:
    candidates = {each["name"]: each for each in [result["best"], *reversed(result["baselines"]), result["dense"]]}
    if result.get("recovery"):
        candidates["recovered"] = result["recovery"]["after"]
    return _metric(candidates[name], metric)


def _metric(candidate: Result, metric: str) -> float:
    """A metric of a candidate; ``kl`` is the mean of its divergences, and ``A + B`` is a sum."""
    metrics: Mapping[str, float] = candidate["metrics"]
    if metric == "kl":
        found = [value for name, value in metrics.items() if name.endswith(".kl")]
        return sum(found) / len(found)
    return sum(metrics[name] for name in metric.split(" + "))


def _once(cells: list[str], again: str) -> list[str]:
    """Cells of which one that equals the cell above it becomes ``again``."""
    return [again if index and cell == cells[index - 1] else cell for index, cell in enumerate(cells)]


def _bold(metric: str, values: list[float], groups: list[str | None]) -> list[str]:
    """Cells of a column; the best value of each group of several is bold."""
    best = max if "accuracy" in metric else min
    cells = []
    for value, group in zip(values, groups, strict=True):
        rivals = [other for other, of in zip(values, groups, strict=True) if of == group]
        shown = _number(metric, value)
        cells.append(f"**{shown}**" if len(rivals) > 1 and value == best(rivals) else shown)
    return cells


def _number(metric: str, value: float) -> str:
    """A number as tables show it: accuracies in percent, divergences with three decimals, perplexities with two."""
    if "accuracy" in metric:
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if metric.endswith("kl") else f"{value:,.2f}"


def results(registry: Registry) -> Callable[[int], Result]:
    """Recorded results by the numbers of their runs."""

    @cache
    def result(run: int) -> Result:
        found = registry.run(str(run)).result
        if found is None:
            raise LookupError(f"run {run} has no result in {registry.path}")
        return found

    return result


def draw(folder: Path) -> None:
    """Write the pictures of the reports of some runs to a folder."""
    with TemporaryDirectory() as scratch:
        for name, (run, picture) in PICTURES.items():
            report = Path(scratch, str(run))
            if not report.exists():
                command = [sys.executable, "-m", "prunecast", "report", str(run), "--out", str(report), "--as-recorded"]
                subprocess.run([*command, "--registry", str(ROOT / "registry.db")], check=True)
            (folder / f"{name}.png").write_bytes((report / f"{picture}.png").read_bytes())


def main() -> None:
    """Write tables and pictures."""
    with Registry.open(ROOT / "registry.db", readonly=True) as registry:
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            page.write_text(filled(text, results(registry)), encoding="utf-8")
    draw(ROOT / "docs" / "images")


if __name__ == "__main__":
    main()
