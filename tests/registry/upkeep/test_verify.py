"""``verify`` finds every kind of damage, and no problem in a valid registry."""

from pathlib import Path

import pytest
from registry_samples import architecture, measurements, setting, start

from prunecast.registry.records import Evaluation, PluginRecord
from prunecast.registry.store import Registry
from prunecast.registry.upkeep.verify import problems


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry.open(tmp_path / "registry.db")
    run = start(registry)
    other = setting(evaluator=PluginRecord("perplexity", 2, {"tokens": 9, "größe": "π"}, None, "elsewhere 1.0"))
    local = setting(evaluator=PluginRecord("mine", 1, {}, None, "mine.py 12345678", "12345678" * 4))
    for under in (setting(), other, local):
        batch = [Evaluation(under, architecture(n), measurements(30.0 + n), 1.0, "cpu") for n in range(30)]
        registry.record_many(run, "pairs", batch)
    return registry


def test_a_valid_registry_has_no_problem(registry: Registry) -> None:
    assert list(problems(registry)) == []


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("UPDATE pruners SET options_json = '{\"order\":2}'", "pruners: key of 1 (taylor)"),
        ("UPDATE evaluators SET version = 3 WHERE id = 2", "evaluators: key of 2"),
        ("UPDATE evaluators SET data_hash = NULL WHERE id = 1", "evaluators: key of 1"),
        ("UPDATE models SET parameters = parameters + 1", "models: family or parameters of 1"),
        ("UPDATE models SET shape_json = '{}'", "models: shape_json of 1"),
        ("UPDATE layers SET mlp_width = 99 WHERE id = 3", "architectures: key or depth of"),
        ("DELETE FROM layers WHERE id = 3", "is made of layers that are not there"),
        ("UPDATE architectures SET depth = 4 WHERE id = 5", "architectures: key or depth of 5"),
        ("UPDATE architectures SET key = randomblob(16) WHERE id = 5", "architectures: key or depth of 5"),
        ("UPDATE evaluations SET parameters = 7 WHERE id = 9", "evaluations: parameters of 9"),
        ("UPDATE metric_values SET parameters = 7 WHERE evaluation_id = 9", "metric_values: evaluation 9"),
        ("UPDATE metric_values SET setting_id = 2 WHERE evaluation_id = 9", "metric_values: evaluation 9"),
        ("DELETE FROM metric_values WHERE evaluation_id = 9", "evaluations: 9 has no value"),
        ("DELETE FROM settings WHERE id = 2", "refers to a row of settings that is not there"),
        ("UPDATE metric_values SET value = 9e999 WHERE evaluation_id = 9", "file: CHECK constraint failed"),
        ("UPDATE metric_values SET standard_error = -1.0 WHERE evaluation_id = 9", "file: CHECK constraint failed"),
        (
            "INSERT INTO metrics VALUES (9, 'new.ppl', 'minimize', 'x', 'log')",
            "measurements: has no column for new.ppl",
        ),
    ],
)
def test_damage_of_every_kind_is_found(registry: Registry, damage: str, problem: str) -> None:
    connection = registry.database.conn
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    assert connection.execute(damage).rowcount > 0
    connection.execute("PRAGMA ignore_check_constraints = OFF")
    found = list(problems(registry))
    assert found
    assert any(problem in line for line in found), found
    assert not any("\n" in line for line in found)
