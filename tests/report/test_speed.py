"""Metrics over predicted speed: drawn if component times are recorded, and then with numbers added up by hand."""

from pathlib import Path

import pytest
from workplace import SMOLLM2

from prunecast.architecture.speed import SPEEDS, LayerTimes, SpeedTable, Times
from prunecast.registry import Registry
from prunecast.registry.records import Timing
from prunecast.report import comparison, speed
from prunecast.report.drawing import svg
from prunecast.report.facts import Facts
from prunecast.report.theme import NARROW, WIDE, Layout

MS = 1_000_000
CONDITIONS = "batch 1, context 256, Abacus 9, 2 threads"


def keep(registry: Registry, context: int = 256, dtype: str = "bfloat16", slower: int = 1) -> None:
    """Prefill: 20 ms, 2 an attention and 1 for 384 channels; decoding: 5 ms, 0.1 and 1 for 1,536 channels."""
    layer = LayerTimes(
        ((3, 3, Times(2 * slower * MS, MS // 10)),), ((0, Times(0, 0)), (1536, Times(4 * slower * MS, MS)))
    )
    table = SpeedTable(1, context, Times(20 * slower * MS, 5 * MS), (0,) * 30, (layer,))
    where = {"device": "Abacus 9", "dtype": dtype, "threads": 2, "batch": 1, "context": context, "engine": "torch 9"}
    registry.keep_speeds(Timing(SMOLLM2, table.sizes, **where), table, 1.0)  # type: ignore[arg-type]


@pytest.fixture
def facts(written_down: Path) -> Facts:
    """The run at 80 %, of whose model times are recorded at two contexts."""
    with Registry.open(written_down) as registry:
        keep(registry, context=32, slower=7)
        keep(registry)
        return Facts(registry, registry.run(1))


def test_the_table_has_times_and_their_shares_of_the_dense_model(facts: Facts) -> None:
    section = speed.section(facts)
    (table,) = section.tables
    columns = ["prefill_ms", "of dense", "decode_ms", "of dense"]
    assert table.columns == ("", *columns, "python-docs.validation.ppl", "python-docs.test.ppl")
    rows = {(row[0], row[-1]): row[1:-2] for row in table.rows}
    assert rows["dense", "16.60"] == ["200.00", "100.0 %", "38.00", "100.0 %"]
    # 25 of 30 layers have 909 of 1,536 channels: 20 + 30 * 2 + 5 * 4 + 25 * 4 * 909 / 1536, and 5 + 3 + 5 + 25 * ...
    assert rows["uniform-mlp", "31.25"] == ["159.18", "79.6 %", "27.79", "73.1 %"]
    assert len(rows) == 1 + 3 * 2


def test_the_text_says_what_the_times_are_of_and_what_else_is_recorded(facts: Facts) -> None:
    first, second = speed.section(facts).text
    assert first.startswith("Times in milliseconds, the smaller the faster, predicted from times of components")
    assert f"{CONDITIONS}, bfloat16, torch 9" in first
    assert second == "Times are also recorded for batch 1, context 32, Abacus 9, 2 threads."


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_each_metric_is_drawn_over_each_speed(facts: Facts, layout: Layout) -> None:
    picture = speed.section(facts).picture
    assert picture is not None
    panels = picture.draw(layout).axes
    drawn = [(axes.get_title(), axes.get_xlabel()) for axes in panels]
    assert drawn == [(metric.name, each) for metric in facts.metrics for each in SPEEDS]
    searched = {metric.name for metric in facts.searched}
    for axes, (name, of) in zip(panels, drawn, strict=True):
        (dots,) = axes.collections
        assert len(dots.get_offsets()) == (len(facts.collected) if name in searched else 0)
        lines = {line.get_label(): line.get_xdata() for line in axes.get_lines() if line.get_marker() != "None"}
        assert set(lines) == {"found", "uniform", "uniform-mlp"}
        assert list(lines["found"]) == sorted(lines["found"], reverse=True)
        left, right = axes.get_xlim()
        assert left < min(lines["uniform"]) < {"prefill_ms": 200, "decode_ms": 38}[of] < right
    assert CONDITIONS in picture.caption
    assert "var(--blue)" in svg(picture, layout)


def test_the_results_compare_with_the_dense_model(facts: Facts) -> None:
    (table,) = comparison.section(facts).tables
    assert table.columns[:5] == ("", "parameters", "kept", "prefill_ms, of dense", "decode_ms, of dense")
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert table.rows[2][:5] == ["uniform-mlp", "107,428,608", "79.9 %", "79.6 %", "73.1 %"]
    assert CONDITIONS in table.caption


def test_nothing_is_drawn_without_times_in_the_dtype_of_the_run(written_down: Path) -> None:
    with Registry.open(written_down) as registry:
        keep(registry, dtype="float32")
        facts = Facts(registry, registry.run(1))
    section = speed.section(facts)
    assert (section.picture, section.tables) == (None, ())
    assert section.text == ["No times of components are recorded for this model in bfloat16."]
    assert "of dense" not in " ".join(comparison.section(facts).tables[0].columns)


def test_a_run_with_limits_of_speed_is_drawn_at_its_own_context(written_down: Path) -> None:
    limited = '{"prefill_ms": 0.8, "context": 32}'
    with Registry.open(written_down) as registry:
        keep(registry, context=32)
        keep(registry, context=256)
        with registry.transaction() as connection:
            connection.execute("UPDATE runs SET spec_json = json_set(spec_json, '$.budget', json(?))", (limited,))
        facts = Facts(registry, registry.run(1))
    assert facts.speeds is not None
    assert facts.speeds.conditions.context == 32
