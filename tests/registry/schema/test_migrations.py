import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from places import RELEASED_REGISTRIES
from registry_samples import PPL, architecture, measurements, process, setting, start
from sqlite_utils import Database, Migrations

from prunecast.architecture.architecture import Layer
from prunecast.errors import RegistryError
from prunecast.registry.queries.selection import Filter, query
from prunecast.registry.records import Failure
from prunecast.registry.schema import migrations
from prunecast.registry.store import Registry
from prunecast.registry.upkeep.verify import problems


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A registry of today's schema with one evaluation."""
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        registry.record(start(registry), "sample", setting(), architecture(1), measurements(31.5), 1.0, "cpu")
    return path


@pytest.fixture
def next_release(monkeypatch: pytest.MonkeyPatch) -> Migrations:
    """prunecast with one more migration, as in a later release."""
    later = Migrations("prunecast")
    for released in (
        migrations.v1_initial,
        migrations.v2_failures,
        migrations.v3_provenance_and_leases,
        migrations.v4_quality_cards,
        migrations.v5_slopes,
        migrations.v6_steps,
        migrations.v7_code_and_versions,
        migrations.v8_identities_and_run_leases,
        migrations.v9_lineage_of_models,
        migrations.v10_exports,
        migrations.v11_component_times,
    ):
        later()(released)

    @later()
    def v12_notes(database: Database) -> None:
        database.conn.execute("ALTER TABLE runs ADD COLUMN note TEXT")

    monkeypatch.setattr(migrations, "migrations", later)
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", migrations.SCHEMA_VERSION + 1)
    return later


def columns(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[1] for row in connection.execute("PRAGMA table_info(runs)")}


def test_the_schema_version_is_the_number_of_migrations(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "registry.db") as registry:
        applied = migrations.migrations.applied(registry.database)
        assert len(applied) == migrations.SCHEMA_VERSION
        assert migrations.migrations.pending(registry.database) == []


def test_every_table_is_strict_and_has_an_integer_primary_key(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "registry.db") as registry:
        tables = [table for table in registry.database.tables if not table.name.startswith("_")]
        assert len(tables) == 18
        assert all(table.strict for table in tables)
        types = {table.columns_dict[name] for table in tables for name in table.pks}
        assert types == {int}


@pytest.mark.parametrize("path", sorted(RELEASED_REGISTRIES.glob("*.db")), ids=lambda path: path.name)
def test_a_registry_of_every_release_is_upgraded_without_loss(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(path, tmp_path))
    with Registry.open(copy) as registry:
        assert [row[PPL.name] for row in query(registry, Filter(metrics=(PPL.name,)))] == [31.5, 32.5]
        assert registry.lookup(setting(), [architecture(1)])[architecture(1)][PPL.name].value == 32.5
        assert next(registry.rows("PRAGMA foreign_key_check"), None) is None
        row = next(registry.rows("SELECT device, python, pruner_distribution, run_id FROM metric_measurements"))
        version = int(path.stem.removeprefix("v"))
        python = "3.11.7" if version >= 8 else "unknown"
        assert tuple(row.values()) == ("cpu", python, "prunecast", 1)
        run = next(registry.rows("SELECT evaluations, measured, seconds_spent FROM run_summary"))
        assert tuple(run.values()) == (2, 2, 2.0)
        failed = registry.failures(setting(), [architecture(2)])
        assert failed == ({} if path.stem == "v1" else {architecture(2): Failure("out of memory", 1)})
        steps = {(0, Layer(4, 2, 12)): (0.125, 0.25)} if version >= 6 else {}
        assert registry.steps(setting(), architecture(0), 1) == steps


def test_the_code_hash_missing_in_an_old_registry_is_added_on_reuse(tmp_path: Path) -> None:
    local = replace(setting().evaluator, code_hash="9" * 32)
    copy = Path(shutil.copy(RELEASED_REGISTRIES / "v6.db", tmp_path))
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE evaluators SET key = ?", (local.key,))
        connection.commit()
    with Registry.open(copy) as registry:
        assert "key of 1 (perplexity)" in next(problems(registry))
        under = setting(evaluator=local)
        registry.record(start(registry), "sample", under, architecture(3), measurements(31.5), 1.0, "cpu")
        assert list(problems(registry)) == []
        assert len(registry.lookup(under, [architecture(1), architecture(3)])) == 2


def test_an_upgraded_registry_has_the_schema_of_a_new_one(tmp_path: Path) -> None:
    def schema_of(path: Path) -> set[tuple[str, ...]]:
        with Registry.open(path) as registry:
            return {tuple(row.values()) for row in registry.rows("SELECT type, name, tbl_name, sql FROM sqlite_master")}

    copies = [Path(shutil.copy(path, tmp_path)) for path in RELEASED_REGISTRIES.glob("*.db")]
    new = tmp_path / "new.db"
    with Registry.open(new) as registry:
        registry.record(start(registry), "sample", setting(), architecture(0), measurements(1.0), 1.0, "cpu")
    assert len(copies) == migrations.SCHEMA_VERSION - 1
    assert all(schema_of(copy) == schema_of(new) for copy in copies)


def test_a_dangling_reference_stops_the_upgrade(tmp_path: Path) -> None:
    copy = Path(shutil.copy(RELEASED_REGISTRIES / "v2.db", tmp_path))
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DELETE FROM settings")
        connection.commit()
    before = copy.read_bytes()
    with pytest.raises(RegistryError, match=r"a row of \w+ refers to a row of settings that is not there; restore"):
        Registry.open(copy)
    assert copy.read_bytes() == before
    assert list(tmp_path.glob("*.bak*")) == []


def test_an_old_registry_is_copied_before_it_is_upgraded(
    old: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue("next_release")
    with Registry.open(old) as registry:
        assert registry.lookup(setting(), [architecture(1)])[architecture(1)][PPL.name].value == 31.5
    assert "note" in columns(old)
    copy = tmp_path / f"registry.db.bak-v{migrations.SCHEMA_VERSION - 1}"
    assert "note" not in columns(copy)
    Registry.open(old).close()
    assert [file.name for file in tmp_path.glob("*.bak*")] == [copy.name]


def test_a_copy_kept_by_an_earlier_upgrade_is_not_overwritten(
    old: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue("next_release")
    earlier = tmp_path / f"registry.db.bak-v{migrations.SCHEMA_VERSION - 1}"
    earlier.write_text("precious")
    Registry.open(old).close()
    assert earlier.read_text() == "precious"
    assert "note" not in columns(earlier.with_name(earlier.name + "-2"))


def test_opening_for_reading_does_not_upgrade_an_old_registry(old: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("next_release")
    before = old.read_bytes()
    with pytest.raises(RegistryError, match="old schema version"):
        Registry.open(old, readonly=True)
    assert old.read_bytes() == before


def test_a_failed_migration_leaves_the_old_registry(old: Path, request: pytest.FixtureRequest) -> None:
    later: Migrations = request.getfixturevalue("next_release")

    @later()
    def v10_broken(database: Database) -> None:
        database.conn.execute("DROP TABLE run_evaluations")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Registry.open(old)
    request.getfixturevalue("monkeypatch").undo()
    with Registry.open(old) as registry:
        assert registry.lookup(setting(), [architecture(1)])
        assert len(query(registry, Filter())) == 1


def test_concurrent_upgrades_make_one_copy(old: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    request.getfixturevalue("next_release")
    openers = [process(open_and_close, old) for _ in range(4)]
    for opener in openers:
        opener.join()
    assert [opener.exitcode for opener in openers] == [0] * 4
    assert len(list(tmp_path.glob("*.bak*"))) == 1


def open_and_close(path: Path) -> None:
    Registry.open(path).close()
