"""Runs whose budget limits speeds: what is measured once, what is told, and what a dry run knows."""

import json

import pytest
from workplace import Workplace

TIMED = ("--set", "budget={decode_ms: 0.98, context: 32}")


@pytest.fixture
def timed(workplace: Workplace) -> dict[str, object]:
    """Result of a run with a limit of the speed."""
    result: dict[str, object] = workplace.prunecast("run", "tiny.yaml", "--json", *TIMED).json
    return result


def test_a_run_measures_a_table_once_and_its_best_meets_the_limit(
    workplace: Workplace, timed: dict[str, object]
) -> None:
    budget, speeds = timed["budget"], timed["speeds"]
    assert isinstance(budget, dict)
    assert isinstance(speeds, dict)
    assert set(budget) == {"decode_ms"}
    assert set(speeds) == {"dense", "best"}
    assert budget["decode_ms"] == pytest.approx(0.98 * speeds["dense"]["decode_ms"], rel=1e-5)
    assert speeds["best"]["decode_ms"] <= budget["decode_ms"]
    ((batch, context, threads, times),) = workplace.sql(
        "SELECT batch, context, threads, times_json FROM component_times"
    )
    assert (batch, context, threads > 0) == (1, 32, True)
    table = json.loads(times)
    assert len(table["layers"]) == 1
    assert len(table["layers"][0]["mlp"]) > 2
    again = workplace.prunecast("run", "tiny.yaml", *TIMED)
    assert "speed         prefill_ms" in again.stdout
    assert workplace.sql("SELECT count(*) FROM component_times") == [(1,)]
    planned = workplace.prunecast("run", "tiny.yaml", "--dry-run", "--json", *TIMED).json
    assert not any("not counted yet" in note for note in planned["notes"])


def test_what_a_run_has_measured_is_found_by_queries_and_its_report(
    workplace: Workplace, timed: dict[str, object]
) -> None:
    front = workplace.prunecast("registry", "pareto", "validation.validation.ppl", "decode_ms", "--json")
    assert front.stderr.startswith("predicted for model: batch 1, context 32, ")
    speeds, best = timed["speeds"], timed["best"]
    assert isinstance(speeds, dict)
    assert isinstance(best, dict)
    by_architecture = {row["architecture"]: row["decode_ms"] for row in front.json}
    assert by_architecture["4x2+24*4"] == pytest.approx(speeds["dense"]["decode_ms"])
    assert len(by_architecture) > 1
    written = workplace.prunecast("report", "1", "--json")
    assert any(file.endswith("speed.png") for file in written.json)


def test_the_card_compares_speeds_with_the_dense_model(workplace: Workplace, timed: dict[str, object]) -> None:
    (export,), speeds = timed["exports"], timed["speeds"]  # type: ignore[misc]
    card = (workplace.folder / export["folder"] / "README.md").read_text()
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| ")]
    assert rows[0][2:4] == ["prefill\\_ms, of dense", "decode\\_ms, of dense"]
    assert [row[2:4] for row in rows if row[0] == "| dense"] == [["100.0 %", "100.0 %"]]
    share = speeds["best"]["decode_ms"] / speeds["dense"]["decode_ms"]
    assert [row[3] for row in rows if row[0] == "| best"] == [f"{100 * share:.1f} %"]
    assert "batch 1, context 32" in card
    assert workplace.prunecast("export", "1", export["folder"]).stdout.endswith("unchanged\n")


def test_a_dry_run_without_a_table_says_that_speeds_are_not_counted_yet(workplace: Workplace) -> None:
    planned = workplace.prunecast("run", "tiny.yaml", "--dry-run", "--json", *TIMED).json
    assert (
        "decode_ms of the budget not counted yet: the run measures the times of the components first"
        in planned["notes"]
    )
    assert not workplace.registry.exists()


def test_a_context_without_room_for_the_tokens_that_are_timed_is_refused(workplace: Workplace) -> None:
    refused = workplace.prunecast("run", "tiny.yaml", "--dry-run", "--set", "budget={decode_ms: 0.9, context: 125}")
    assert refused.code == 1
    assert "125 leaves no room for the 8 tokens that are timed after it: set it to 120 or less" in refused.stderr


def test_a_limit_that_no_architecture_meets_is_refused_after_the_table(workplace: Workplace) -> None:
    refused = workplace.prunecast("run", "tiny.yaml", "--set", "budget={prefill_ms: 0.001, context: 32}")
    assert refused.code == 1
    assert "no architecture of the search space meets prefill_ms <= " in refused.stderr
    assert " ms (0.1% of the dense model): the smallest has " in refused.stderr
