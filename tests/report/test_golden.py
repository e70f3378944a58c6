"""Every sentence and table of a report, compared with ``golden/``. RENEW_GOLDEN=1 rewrites the file."""

import os
import re
from pathlib import Path

from prunecast.registry import Registry
from prunecast.report import ratios
from prunecast.report.facts import Facts
from prunecast.report.page import SECTIONS
from prunecast.report.section import Section, Table

GOLDEN = Path(__file__).with_name("golden") / "quickstart.txt"


def told(section: Section) -> str:
    """A section as plain text; dates, versions, the spec's key and plugin options are replaced."""
    parts = [f"# {section.title}", *section.text]
    if section.picture:
        parts += [f"[{section.picture.name}: {section.picture.alt}]", section.picture.caption]
    text = "\n\n".join([*parts, *map(drawn, section.tables), section.verbatim or ""])
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2025-01-31T12:00:00Z", text)
    text = re.sub(r"(?m)^((?:space|pruner|predictor|searcher) \| \w+): .*$", r"\1: its options", text)
    text = re.sub(r"key [0-9a-f]{32}", "key 0123", text)
    return re.sub(r"(?m)^\d+\.\d+\.\d+ \|.*\| cpu$", "0.1.0 | versions | cpu", text).rstrip()


def drawn(table: Table) -> str:
    """A table as text, one line a row."""
    return "\n".join([f"({table.caption})", *(" | ".join(row) for row in [table.columns, *table.rows])])


def test_sections_equal_the_golden_file(written_down: Path) -> None:
    with Registry.open(written_down, readonly=True) as registry:
        facts = Facts(registry, registry.run(1))
    found = "\n\n".join(told(make(facts)) for make in SECTIONS) + "\n"
    if "RENEW_GOLDEN" in os.environ:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8")


def test_of_several_runs_at_one_size_the_reported_or_latest_is_drawn(run_again: Path) -> None:
    with Registry.open(run_again, readonly=True) as registry:
        drawn_of = {number: ratios.section(Facts(registry, registry.run(number))) for number in (1, 2, 3)}
    for number, expected in {1: [27.5, 37.25], 2: [27.5, 41.8], 3: [27.5, 38.5]}.items():
        rows = drawn_of[number].tables[0].rows
        assert [float(row[3]) for row in rows if row[0] == "found"] == expected
        assert [row[0] for row in rows].count("uniform") == 2
        assert "2 runs of the model" in drawn_of[number].text[0]
