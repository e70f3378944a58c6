"""Section "Exports": written files, compared in their engine with the measured model."""

from collections.abc import Mapping
from typing import Any

from prunecast.report.facts import Facts
from prunecast.report.section import Section, Table
from prunecast.text import number

_COLUMNS = ("target", "engine", "largest difference", "greedy text", "perplexity", "measured model", "MB")
_SPEEDS = ("target", "seconds to load", "tokens a second, reading", "tokens a second, generating")


def section(facts: Facts) -> Section:
    """Section with the exports of the run that the registry knows."""
    if not facts.exports:
        return Section("Exports", ["The registry knows of no export of this run."])
    text = (
        "A file is loaded by the engine that it is for, in a process of its own, and compared with the measured model: "
        "log-probabilities or logits, greedy text, and the perplexity of 2,048 tokens of Python's documentation. Where "
        "the engine was not installed, nothing was compared."
    )
    notes = [f"{row['target']}: {note}" for row in facts.exports for note in row["notes"]]
    tables = [
        Table("Files compared with the measured model", _COLUMNS, [_compared(row) for row in facts.exports]),
        Table("Speed of the files, on the machine that wrote them", _SPEEDS, [_speeds(row) for row in facts.exports]),
    ]
    return Section("Exports", [text, *notes], tables=tables)


def _compared(row: Mapping[str, Any]) -> list[str]:
    greedy = "" if row["greedy"] is None else f"{row['greedy_equal']} of {row['greedy']}"
    return [
        row["target"],
        row["engine"] or "not installed",
        "" if row["max_difference"] is None else f"{row['max_difference']:.1e}",
        greedy,
        *(_or_empty(row[name]) for name in ("perplexity", "reference_perplexity")),
        f"{row['bytes'] / 1e6:.1f}",
    ]


def _speeds(row: Mapping[str, Any]) -> list[str]:
    return [row["target"], *(_or_empty(row[name]) for name in ("load_seconds", "prefill", "decode"))]


def _or_empty(value: float | None) -> str:
    return "" if value is None else number(value)
