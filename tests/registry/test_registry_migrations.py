import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from registry_samples import PPL, architecture, measurements, process, setting, start
from sqlite_utils import Database, Migrations

from prunecast.errors import RegistryError
from prunecast.registry import schema
from prunecast.registry.queries import query
from prunecast.registry.store import Registry

RELEASED = Path(__file__).parent / "released"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A registry of today's schema with one evaluation."""
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        registry.record(start(registry), "sample", setting(), architecture(1), measurements(31.5), 1.0, "cpu")
    return path


@pytest.fixture
def next_release(monkeypatch: pytest.MonkeyPatch) -> Migrations:
    """prunecast as it will be with one more migration."""
    later = Migrations("prunecast")
    later(name="v1_initial")(schema.v1_initial)

    @later()
    def v2_notes(database: Database) -> None:
        database.conn.execute("ALTER TABLE runs ADD COLUMN note TEXT")

    monkeypatch.setattr(schema, "migrations", later)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    return later


def columns(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[1] for row in connection.execute("PRAGMA table_info(runs)")}


def test_the_schema_version_is_the_number_of_migrations(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "registry.db") as registry:
        applied = schema.migrations.applied(registry.database)
        assert len(applied) == schema.SCHEMA_VERSION
        assert schema.migrations.pending(registry.database) == []


def test_every_table_of_ours_is_strict_and_its_primary_key_an_integer(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "registry.db") as registry:
        tables = [table for table in registry.database.tables if not table.name.startswith("_")]
        assert len(tables) == 13
        assert all(table.strict for table in tables)
        types = {table.columns_dict[name] for table in tables for name in table.pks}
        assert types == {int}


@pytest.mark.parametrize("path", sorted(RELEASED.glob("*.db")), ids=lambda path: path.name)
def test_a_registry_of_every_release_is_upgraded_without_loss(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(path, tmp_path))
    with Registry.open(copy) as registry:
        assert [row["value"] for row in query(registry, metric=PPL.name)] == [31.5, 32.5]
        assert registry.lookup(setting(), [architecture(1)])[architecture(1)][PPL.name].value == 32.5


def test_an_old_registry_is_copied_before_it_is_upgraded(
    old: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue("next_release")
    with Registry.open(old) as registry:
        assert registry.lookup(setting(), [architecture(1)])[architecture(1)][PPL.name].value == 31.5
    assert "note" in columns(old)
    copy = tmp_path / f"registry.db.bak-v{schema.SCHEMA_VERSION - 1}"
    assert "note" not in columns(copy)
    Registry.open(old).close()
    assert [file.name for file in tmp_path.glob("*.bak*")] == [copy.name]


def test_a_copy_kept_by_an_earlier_upgrade_is_not_overwritten(
    old: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue("next_release")
    earlier = tmp_path / f"registry.db.bak-v{schema.SCHEMA_VERSION - 1}"
    earlier.write_text("precious")
    Registry.open(old).close()
    assert earlier.read_text() == "precious"
    assert "note" not in columns(earlier.with_name(earlier.name + "-2"))


def test_an_old_registry_is_not_upgraded_by_reading(old: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("next_release")
    before = old.read_bytes()
    with pytest.raises(RegistryError, match="old schema version"):
        Registry.open(old, readonly=True)
    assert old.read_bytes() == before


def test_a_migration_that_fails_leaves_the_old_registry(old: Path, request: pytest.FixtureRequest) -> None:
    later: Migrations = request.getfixturevalue("next_release")

    @later()
    def v3_broken(database: Database) -> None:
        database.conn.execute("DROP TABLE run_evaluations")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Registry.open(old)
    request.getfixturevalue("monkeypatch").undo()
    with Registry.open(old) as registry:
        assert registry.lookup(setting(), [architecture(1)])
        assert len(query(registry)) == 2


def test_processes_that_upgrade_at_the_same_time_make_one_copy(
    old: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue("next_release")
    openers = [process(open_and_close, old) for _ in range(4)]
    for opener in openers:
        opener.join()
    assert [opener.exitcode for opener in openers] == [0] * 4
    assert len(list(tmp_path.glob("*.bak*"))) == 1


def open_and_close(path: Path) -> None:
    Registry.open(path).close()
