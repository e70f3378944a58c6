"""Dry runs: planned and cached evaluations."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from workplace import Workplace

from prunecast.spec.stages import SENSITIVITY_EVALUATIONS

DRY = ("run", "tiny.yaml", "--dry-run")


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine without free memory, so that no weights can be loaded."""
    nothing = psutil.virtual_memory()._replace(available=0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: nothing)


def test_before_a_run_nothing_is_cached_and_nothing_is_written(workplace: Workplace, no_memory: None) -> None:
    outcome = workplace.prunecast(*DRY, "--json")
    assert (outcome.code, outcome.stderr) == (0, "")
    steps = {step["stage"]: step for step in outcome.json["steps"]}
    assert list(steps) == ["dense", "pairs", "round 1", "round 2", "verify", "baselines"]
    assert [step["architectures"] for step in steps.values()] == [1, 12, 3, 3, 2, 2]
    assert [step["evaluations"] for step in steps.values()] == [2, 12, 3, 3, 2, 4]
    assert [step["cached"] for step in steps.values()] == [0, 0, None, None, None, None]
    assert all(step["seconds"] > 0 for step in steps.values())
    assert outcome.json["seconds"] == pytest.approx(sum(step["seconds"] for step in steps.values()))
    assert outcome.json["basis"] == "a matrix multiplication timed on this machine"
    assert not workplace.registry.exists()


def test_neighbours_are_a_stage_that_costs_several_evaluations(workplace: Workplace) -> None:
    steps = {step["stage"]: step for step in workplace.prunecast(*DRY, "--json", "--set", "neighbours=1").json["steps"]}
    assert list(steps) == ["dense", "pairs", "round 1", "round 2", "neighbours", "verify", "baselines"]
    around = steps["neighbours"]
    assert (around["architectures"], around["evaluations"], around["cached"]) == (2, 2, None)
    assert around["seconds"] == pytest.approx(SENSITIVITY_EVALUATIONS * 2 / 3 * steps["round 1"]["seconds"])


def test_after_a_run_its_evaluations_are_cached_and_give_the_times(continued: Workplace, no_memory: None) -> None:
    before = continued.sql("SELECT count(*), max(id) FROM evaluations")
    planned = continued.prunecast(*DRY, "--json").json
    assert [step["cached"] for step in planned["steps"]] == [2, 12, None, None, None, None]
    assert [step["seconds"] for step in planned["steps"][:2]] == [0, 0]
    assert planned["basis"] == "recorded evaluations"
    other = continued.prunecast(*DRY, "--json", "--set", "evaluators.0.tokens=192").json
    assert [step["cached"] for step in other["steps"][:2]] == [1, 0]
    assert continued.sql("SELECT count(*), max(id) FROM evaluations") == before
    assert continued.prunecast("runs", "list", "--json").json[0]["status"] == "finished"


def test_table_of_stages(continued: Workplace) -> None:
    outcome = continued.prunecast(*DRY)
    head, rule, *rest = outcome.stdout.splitlines()
    steps, (total, _, *memory) = rest[: rest.index("")], rest[rest.index("") + 1 :]
    assert head.split() == ["stage", "architectures", "evaluations", "cached", "seconds"]
    assert set(rule) == {"-", " "}
    assert memory[-1] == "placement: one for calibration, one for evaluation"
    assert [line.split()[0] for line in memory[2:4]] == ["one,", "stream"]
    assert [line.rsplit(maxsplit=1)[0].split() for line in steps] == [
        ["dense", "1", "2", "2"],
        ["pairs", "12", "12", "12"],
        ["round", "1", "3", "3", "?"],
        ["round", "2", "3", "3", "?"],
        ["verify", "2", "2", "?"],
        ["baselines", "2", "4", "?"],
    ]
    assert total.startswith("about less than 1 s of evaluation, by recorded evaluations; loading, ranking, ")


def test_the_plan_counts_the_evaluations_of_the_run(workplace: Workplace) -> None:
    planned = workplace.prunecast(*DRY, "--json").json
    done = workplace.prunecast("run", "tiny.yaml", "--json", "--set", "export=null").json
    assert sum(step["evaluations"] for step in planned["steps"]) == done["evaluations"]["measured"]


def test_search_baselines_use_as_many_evaluations_as_there_are_pairs(continued: Workplace) -> None:
    learning = ("collect={pairs: 4, reuse: true}", "baselines=[evolution]", "seed=1")
    options = [option for override in learning for option in ("--set", override)]
    steps = {
        step["stage"]: step["architectures"] for step in continued.prunecast(*DRY, "--json", *options).json["steps"]
    }
    assert steps["pairs"] > 12
    assert steps["evolution"] == steps["pairs"] + 2 * 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pruner.calibration.dataset=validation.txt", "used for calibration and for evaluation"),
        ("objective={validation.ppl: 1}", "no evaluator measures 'validation.ppl'"),
        ("budget.parameters=0.01", "no architecture of the search space meets"),
        ("warm_start.models=[absent]", "no metric is called 'validation.validation.ppl'; it holds: none"),
        ("export.path=model", "of another origin (no prunecast_export.json lists it)"),
    ],
)
def test_a_dry_run_reports_the_errors_of_the_run(workplace: Workplace, override: str, message: str) -> None:
    outcome = workplace.prunecast(*DRY, "--set", override)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert message in outcome.stderr


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but the model, by name."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("registry", ["registry.db", "new/folder/r.db", "empty.db"])
def test_a_dry_run_leaves_no_registry_behind(workplace: Workplace, registry: str) -> None:
    (workplace.folder / "empty.db").touch()
    before = files(workplace.folder)
    outcome = workplace.prunecast(*DRY, "--quiet", "--registry", registry)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert files(workplace.folder) == before
    assert not (workplace.folder / "new").exists()


def test_a_dry_run_counts_what_an_old_registry_has_without_upgrading_it(continued: Workplace) -> None:
    with closing(sqlite3.connect(continued.registry)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = delete; DROP VIEW run_summary; DROP TABLE run_leases; DROP TABLE exports;"
            "DROP TABLE component_times;"
            "PRAGMA user_version = 7;"
            "ALTER TABLE runs DROP COLUMN identity_json; ALTER TABLE models DROP COLUMN made_from_json;"
            "DELETE FROM _sqlite_migrations WHERE name LIKE 'v8_%' OR name LIKE 'v9_%' OR name LIKE 'v10_%' OR "
            "name LIKE 'v11_%';"
        )
    before = files(continued.folder)
    planned = continued.prunecast(*DRY, "--json").json
    assert {step["stage"]: step["cached"] for step in planned["steps"]}["pairs"] == 12
    assert files(continued.folder) == before


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ("model", "error: model: is a folder; name a file in it"),
        ("validation.txt", "error: validation.txt: is no SQLite file, or a damaged one"),
        ("/proc/nope/r.db", "error: /proc/nope/r.db: "),
        ("validation.txt/r.db", "error: validation.txt/r.db: "),
    ],
)
def test_a_dry_run_refuses_the_registry_that_the_run_would(workplace: Workplace, registry: str, message: str) -> None:
    for command in (DRY, DRY[:-1]):
        outcome = workplace.prunecast(*command, "--registry", registry)
        assert (outcome.code, outcome.stderr.count("\n")) == (1, 1)
        if command is DRY:
            assert outcome.stderr.startswith(message)
