"""Records that deleting, gc and vacuum remove, and those that they keep."""

from pathlib import Path

import pytest
from registry_samples import PPL, architecture, measurements, setting, start

from prunecast.architecture.architecture import Layer
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry.leases import Leases
from prunecast.registry.records import ModelRecord, PluginRecord
from prunecast.registry.store import Registry
from prunecast.registry.upkeep.clean import delete_evaluations, delete_run, remove_unreferenced, vacuum
from prunecast.registry.upkeep.verify import problems

OTHER = setting(
    model=ModelRecord("e" * 32, "other", setting().model.shape),
    pruner=PluginRecord("magnitude", 1, {}, None, "prunecast"),
    evaluator=PluginRecord("accuracy", 1, {}, "e" * 32, "prunecast"),
)
RARE = Metric("rare.test.accuracy", "maximize", "fraction")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Run 1 measured 1 to 4, and 5 with a metric of its own under another setting; run 2 reused 2 and measured 6."""
    registry = Registry.open(tmp_path / "registry.db")
    first, second = start(registry), start(registry, "b" * 32, "second")
    for number in (1, 2, 3, 4):
        registry.record(first, "pairs", setting(), architecture(number), measurements(30.0), 2.0, "cpu")
    registry.record(first, "pairs", OTHER, architecture(5), [Measurement(RARE, 0.5, None, 9)], 2.0, "cuda")
    registry.note_reuse(second, "pairs", setting(), [architecture(2)])
    registry.record(second, "pairs", setting(), architecture(6), measurements(30.0), 2.0, "cpu")
    return registry


def known(registry: Registry) -> set[int]:
    numbers = {architecture(number): number for number in range(1, 7)}
    found = registry.lookup(setting(), list(numbers)) | registry.lookup(OTHER, list(numbers))
    return {numbers[each] for each in found}


def test_deleting_a_run_keeps_its_evaluations(registry: Registry) -> None:
    delete_run(registry, 1)
    assert [run.name for run in registry.runs()] == ["second"]
    assert known(registry) == {1, 2, 3, 4, 5, 6}
    summary = next(registry.rows("SELECT evaluations, measured, reused, seconds_saved FROM run_summary"))
    assert tuple(summary.values()) == (2, 1, 1, 2.0)
    assert len(list(registry.rows("SELECT * FROM run_evaluations WHERE run_id = 1"))) == 0
    assert remove_unreferenced(registry) == dict.fromkeys(remove_unreferenced(registry), 0)
    assert list(problems(registry)) == []


def test_deleting_evaluations_keeps_those_other_runs_use(registry: Registry) -> None:
    assert delete_evaluations(registry, 1) == 4
    delete_run(registry, 1)
    assert known(registry) == {2, 6}
    assert list(problems(registry)) == []


def test_local_sensitivities_keep_their_references_until_deleted(registry: Registry) -> None:
    registry.record_steps(1, setting(dtype="bfloat16"), architecture(7), 1, {(0, Layer(1, 1, 1)): (0.5, 0.25)}, 1.0)
    assert remove_unreferenced(registry) == dict.fromkeys(remove_unreferenced(registry), 0)
    delete_run(registry, 2)
    assert registry.steps(setting(dtype="bfloat16"), architecture(7), 1) == {(0, Layer(1, 1, 1)): (0.5, 0.25)}
    delete_evaluations(registry, 1)
    assert registry.steps(setting(dtype="bfloat16"), architecture(7), 1) == {}
    removed = remove_unreferenced(registry)
    assert (removed["architectures"] > 0, removed["settings"]) == (True, 2)
    assert list(problems(registry)) == []


def test_gc_removes_exactly_the_unreferenced_rows(registry: Registry) -> None:
    registry.record_failure(2, setting(), architecture(7), "out of memory")
    assert Leases(registry).take([(setting(), architecture(8))]) == [True]
    with registry.transaction() as connection:
        connection.execute(
            "INSERT INTO leases SELECT id, 1, 'x:1:x', '2020-01-01T00:00:00Z' FROM architectures LIMIT 1"
        )
    delete_evaluations(registry, 1)
    delete_run(registry, 1)
    assert RARE.name in next(registry.rows("SELECT * FROM measurements"))
    removed = remove_unreferenced(registry)
    layers = removed.pop("layers")
    assert removed == {
        "leases": 1,
        "architectures": 4,  # 1, 3, 4 and 5
        "settings": 1,
        "models": 1,
        "pruners": 1,
        "evaluators": 1,
        "metrics": 1,
        "provenances": 1,
    }
    assert layers > 0
    assert RARE.name not in next(registry.rows("SELECT * FROM measurements"))
    assert known(registry) == {2, 6}
    assert Leases(registry).take([(setting(), architecture(8))]) == [False]
    assert list(registry.failures(setting(), [architecture(7)])) == [architecture(7)]
    assert set(remove_unreferenced(registry).values()) == {0}
    assert list(problems(registry)) == []


def test_removed_evaluations_can_be_measured_again(registry: Registry) -> None:
    delete_evaluations(registry, 1)
    remove_unreferenced(registry)
    run = start(registry)
    registry.record(run, "pairs", OTHER, architecture(5), [Measurement(RARE, 0.75, None, 9)], 2.0, "cuda")
    assert registry.lookup(OTHER, [architecture(5)])[architecture(5)][RARE.name].value == 0.75
    assert list(problems(registry)) == []


def test_vacuum_frees_space_and_loses_nothing(registry: Registry) -> None:
    run = start(registry, "c" * 32, "large")
    model = ModelRecord("d" * 32, "large", setting().model.shape)
    for number in range(100, 400):
        registry.record(run, "pairs", setting(model=model), architecture(number), measurements(30.0), 2.0, "cpu")
    delete_evaluations(registry, run)
    remove_unreferenced(registry)
    before, after = vacuum(registry)
    assert after < before
    assert registry.path.stat().st_size == after
    assert known(registry) == {1, 2, 3, 4, 5, 6}
    assert registry.lookup(setting(), [architecture(1)])[architecture(1)][PPL.name].value == 30.0
    assert list(problems(registry)) == []
