"""Files that others wrote: what is not a registry's own is refused by name, and nothing of it is executed."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from places import RELEASED_REGISTRIES, SHIPPED_REGISTRY
from registry_samples import architecture, measurements, setting, start

from prunecast.errors import RegistryError
from prunecast.registry.queries.stats import sql
from prunecast.registry.sharing.merge import merge
from prunecast.registry.sqlite.defences import MOST_CELL_BYTES
from prunecast.registry.store import Registry

TRIGGER = "CREATE TRIGGER sneaky AFTER INSERT ON runs BEGIN DELETE FROM evaluations; END"
CHANGED_VIEW = "DROP VIEW run_summary; CREATE VIEW run_summary AS SELECT 1 AS run_id, 'mine' AS name"
SWAPPED_TABLE = "DROP TABLE steps; CREATE VIEW steps AS SELECT * FROM runs"
LOOSE_TABLE = "DROP TABLE failures; CREATE TABLE failures (reason)"
HIDDEN_TRIGGER = f"""{TRIGGER}; PRAGMA writable_schema = ON;
    UPDATE sqlite_master SET name = 'sqlite_stat9' WHERE type = 'trigger'"""


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.db"
    with Registry.open(path) as registry:
        registry.record(start(registry), "pairs", setting(), architecture(1), measurements(31.5), 1.0, "cpu")
    return path


def change(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


@pytest.mark.parametrize(
    ("script", "names"),
    [
        (TRIGGER, ["trigger sneaky", 'DROP TRIGGER "sneaky";']),
        (HIDDEN_TRIGGER, ["damaged", "sqlite_stat9"]),
        (f"{TRIGGER}; CREATE TRIGGER b BEFORE DELETE ON runs BEGIN SELECT 1; END", ["trigger sneaky, trigger b"]),
        ("CREATE TRIGGER t INSTEAD OF INSERT ON measurements BEGIN SELECT 1; END", ["trigger t"]),
        ("CREATE VIEW best AS SELECT * FROM runs", ["view best"]),
        (CHANGED_VIEW, ["view run_summary"]),
        ("DROP VIEW measurements; CREATE VIEW measurements AS SELECT 1 AS model", ["view measurements"]),
        (SWAPPED_TABLE, ["view steps"]),
        (LOOSE_TABLE, ["table failures"]),
        ("CREATE VIRTUAL TABLE words USING fts5(word)", ["virtual table words"]),
        ("DROP VIEW pareto; CREATE TABLE pareto (x)", ["table pareto"]),
        ("CREATE INDEX own ON runs (json_extract(spec_json, '$.x'))", ["index own", 'DROP INDEX "own";']),
        ("DROP TABLE leases", ["lacks leases"]),
        ("DROP INDEX metric_values_by_value", ["lacks metric_values_by_value"]),
        ('CREATE VIEW "\x1b[2Jv" AS SELECT 1', ["view \x1b[2Jv"]),
    ],
)
@pytest.mark.parametrize("readonly", [True, False])
def test_foreign_sql_is_refused_by_name(filled: Path, script: str, names: list[str], readonly: bool) -> None:
    change(filled, script)
    before = filled.read_bytes()
    with pytest.raises(RegistryError) as refused:
        Registry.open(filled, readonly)
    assert all(name in str(refused.value) for name in names), str(refused.value)
    assert str(refused.value).startswith(f"{filled}: ")
    with Registry.open(filled.with_name("ours.db")) as ours, pytest.raises(RegistryError, match=r"theirs.db: "):
        merge(ours, filled)
    assert filled.read_bytes() == before


@pytest.mark.parametrize("release", ["v1.db", "v3.db", "v6.db"])
def test_an_old_registry_with_a_trigger_is_neither_upgraded_nor_merged(tmp_path: Path, release: str) -> None:
    old = Path(shutil.copy(RELEASED_REGISTRIES / release, tmp_path / "old.db"))
    change(old, TRIGGER)
    before = old.read_bytes()
    with pytest.raises(RegistryError, match=r"has trigger sneaky"):
        Registry.open(old)
    with Registry.open(tmp_path / "ours.db") as ours, pytest.raises(RegistryError, match=r"old.db: has trigger sneaky"):
        merge(ours, old)
    assert old.read_bytes() == before
    assert not [path.name for path in tmp_path.iterdir() if ".bak" in path.name]


def test_an_old_registry_that_claims_a_version_it_is_not_of_is_refused(filled: Path) -> None:
    change(filled, "PRAGMA user_version = 3")
    with pytest.raises(RegistryError, match=r"theirs.db: "):
        Registry.open(filled)


def test_tables_beside_those_of_a_registry_are_left_alone(filled: Path) -> None:
    change(filled, "CREATE TABLE notes (run_id INTEGER, note TEXT); CREATE INDEX by_run ON notes (run_id); ANALYZE")
    with Registry.open(filled) as registry:
        assert len(registry.runs()) == 1
    with Registry.open(filled, readonly=True) as registry:
        assert sql(registry, "SELECT count(*) AS n FROM notes") == [{"n": 0}]


def test_a_missing_view_is_made_again_when_the_file_is_opened_for_writing(filled: Path) -> None:
    change(filled, "DROP VIEW run_summary")
    with pytest.raises(RegistryError, match="lacks the views run_summary"):
        Registry.open(filled, readonly=True)
    Registry.open(filled).close()
    with Registry.open(filled, readonly=True) as registry:
        assert next(registry.rows("SELECT evaluations FROM run_summary"))["evaluations"] == 1


def test_the_shipped_registry_is_accepted() -> None:
    with Registry.open(SHIPPED_REGISTRY, readonly=True) as registry:
        assert next(registry.rows("SELECT count(*) AS n FROM measurements LIMIT 1"))["n"] > 1000


@pytest.mark.parametrize("column", ["spec_text", "message", "name"])
def test_an_oversized_cell_is_named_and_not_read(filled: Path, column: str) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute(f"UPDATE runs SET {column} = CAST(zeroblob(?) AS TEXT)", (MOST_CELL_BYTES + 1,))
        connection.commit()
    with Registry.open(filled, readonly=True) as registry, pytest.raises(RegistryError) as refused:
        registry.runs()
    assert f"more than 64 MiB in one cell of runs.{column}" in str(refused.value)
    with Registry.open(filled.with_name("ours.db")) as ours, pytest.raises(RegistryError, match=f"runs.{column}"):
        merge(ours, filled)


def test_an_oversized_value_is_not_recorded(filled: Path) -> None:
    with Registry.open(filled) as registry:
        with pytest.raises(RegistryError, match="more than 64 MiB cannot be recorded"):
            registry.start_run("b" * 32, "long", "{}", "x" * (MOST_CELL_BYTES + 1))
        assert len(registry.runs()) == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE runs SET name = CAST(x'ff41' AS TEXT)", "not UTF-8"),
        ("UPDATE runs SET result_json = '[1]'", "its result is no mapping"),
        ("UPDATE runs SET result_json = '7'", "its result is no mapping"),
        (f"UPDATE runs SET result_json = '{'[' * 1500}{']' * 1500}'", "its result is no JSON"),
    ],
)
def test_a_damaged_run_is_one_line(filled: Path, statement: str, message: str) -> None:
    change(filled, statement)
    with Registry.open(filled, readonly=True) as registry, pytest.raises(RegistryError, match=message):
        registry.runs()


def test_rows_of_another_type_than_their_table_allows_are_not_merged(filled: Path) -> None:
    as_it_was = (
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, '{}', '{}') WHERE name = 'runs'"
    )
    change(filled, as_it_was.format(") STRICT", ")"))
    change(filled, "UPDATE runs SET started_utc = x'00ff'")
    change(filled, "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = sql || ' STRICT' WHERE name = 'runs'")
    with Registry.open(filled.with_name("ours.db")) as ours:
        with pytest.raises(RegistryError, match=r"theirs.db: is damaged .*runs.started_utc"):
            merge(ours, filled)
        assert ours.runs() == []


def test_rows_that_a_constraint_forbids_are_not_merged(filled: Path) -> None:
    change(filled, "PRAGMA ignore_check_constraints = ON; UPDATE runs SET status = 'done'")
    with Registry.open(filled.with_name("ours.db")) as ours:
        with pytest.raises(RegistryError, match=r"CHECK constraint failed"):
            merge(ours, filled)
        assert ours.runs() == []
