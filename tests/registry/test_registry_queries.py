from pathlib import Path

import pytest
from registry_samples import ACCURACY, DEPTH, PPL, architecture, measurements, setting, shape, start

from prunecast.architecture import Architecture
from prunecast.errors import RegistryError
from prunecast.registry.queries import COLUMNS, best, mean_seconds, query, sql, stats
from prunecast.registry.records import ModelRecord
from prunecast.registry.store import Registry

OTHER = setting(model=ModelRecord("abc" + "0" * 29, "other", shape()))
WIDTHS = (24, 20, 16, 8, 0)


def cut(width: int) -> Architecture:
    return Architecture([(4, 2, width)] * DEPTH)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Five architectures of two models, the narrower the worse; a second run that reuses one evaluation."""
    registry = Registry.open(tmp_path / "registry.db")
    run = start(registry)
    for under, ppl in ((setting(), 30.0), (OTHER, 60.0)):
        for width in WIDTHS:
            registry.record(run, "sample", under, cut(width), measurements(ppl - width), 2.0, "cpu")
    second = start(registry, "b" * 32, "second")
    registry.note_reuse(second, "verify", setting(), [cut(16)])
    return registry


def test_stats_count_what_is_there_and_what_reuse_saved(registry: Registry) -> None:
    counts = stats(registry)
    assert counts.pop("bytes") > 0
    assert counts == {
        "models": 2,
        "pruners": 1,
        "evaluators": 1,
        "settings": 2,
        "architectures": 5,
        "evaluations": 10,
        "metric_values": 20,
        "runs": 2,
        "seconds_spent": 20.0,
        "seconds_saved": 2.0,
    }


def test_the_mean_time_is_that_of_the_very_setting(registry: Registry) -> None:
    registry.record(1, "sample", OTHER, cut(4), measurements(50.0), 14.0, "cpu")
    assert mean_seconds(registry, setting()) == 2.0
    assert mean_seconds(registry, OTHER) == 4.0
    assert mean_seconds(registry, setting(dtype="bfloat16")) is None


def test_stats_of_an_empty_registry_are_zeros(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "empty.db") as registry:
        assert {value for name, value in stats(registry).items() if name != "bytes"} == {0}
        assert query(registry) == []


def test_query_rows_carry_the_documented_columns_and_an_architecture_that_parses(registry: Registry) -> None:
    row = query(registry, model="tiny", metric=PPL.name)[1]
    assert tuple(row) == COLUMNS
    assert Architecture.parse(row["architecture"]) == cut(20)
    counted, dense = shape().count([cut(20), cut(24)]).tolist()
    assert (row["value"], row["parameters"], row["kept"]) == (10.0, counted, counted / dense)


def test_query_filters_by_model_name_fingerprint_prefix_metric_and_run(registry: Registry) -> None:
    assert len(query(registry)) == 20
    assert [row["value"] for row in query(registry, model="other", metric=PPL.name)] == [60.0 - w for w in WIDTHS]
    assert query(registry, model="abc") == query(registry, model="other")
    assert {row["metric"] for row in query(registry, metric=ACCURACY.name)} == {ACCURACY.name}
    assert [row["value"] for row in query(registry, run="second", metric=PPL.name)] == [14.0]
    assert len(query(registry, limit=3)) == 3


def test_query_sorts_by_a_column_and_breaks_ties_the_same_way_every_time(registry: Registry) -> None:
    values = [row["value"] for row in query(registry, metric=PPL.name, sort="-value")]
    assert values == sorted(values, reverse=True)
    by_kept = query(registry, metric=PPL.name, sort="kept")
    assert [(row["kept"], row["model"]) for row in by_kept] == sorted(
        ((row["kept"], row["model"]) for row in by_kept), key=lambda pair: (pair[0], pair[1] == "other")
    )


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"model": "absent"}, "no model is called 'absent'; it holds: tiny, other"),
        ({"model": ""}, "no model"),
        ({"metric": "absent"}, f"it holds: {ACCURACY.name}, {PPL.name}"),
        ({"run": "absent"}, "no run"),
        ({"sort": "value; DROP TABLE runs"}, "sort by one of: model, "),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(
    registry: Registry, wanted: dict[str, str], message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        query(registry, **wanted)  # type: ignore[arg-type]


def test_best_follows_the_direction_of_the_metric(registry: Registry) -> None:
    assert [row["value"] for row in best(registry, PPL.name, model="tiny")] == [6.0, 10.0, 14.0, 22.0, 30.0]
    accuracies = [row["value"] for row in best(registry, ACCURACY.name)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(best(registry, PPL.name, limit=3)) == 3


def test_best_within_a_budget_has_the_largest_architecture_that_fits(registry: Registry) -> None:
    counted, dense = shape().count([cut(16), cut(24)]).tolist()
    fitting = best(registry, PPL.name, model="tiny", budget={"parameters": counted})
    assert [row["value"] for row in fitting] == [14.0, 22.0, 30.0]
    assert best(registry, PPL.name, model="tiny", budget={"parameters": (counted + 1) / dense}) == fitting
    macs = int(shape().count([cut(20)], "macs")[0])
    both = best(registry, PPL.name, model="tiny", budget={"macs": macs, "parameters": 1.0}, limit=1)
    assert [row["value"] for row in both] == [10.0]
    assert best(registry, PPL.name, budget={"parameters": 0.001}) == []


def test_sql_reads_tables_and_views(registry: Registry) -> None:
    assert sql(registry, "SELECT count(*) AS n FROM metric_measurements;") == [{"n": 20}]
    key = sql(registry, "WITH a AS (SELECT key FROM architectures ORDER BY id) SELECT key FROM a LIMIT 1")
    assert key == [{"key": cut(24).key}]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM runs",
        "INSERT INTO layers VALUES (99, 1, 1, 1) RETURNING id",
        "WITH x AS (SELECT 1) UPDATE runs SET name = 'x'",
        "DROP VIEW measurements",
        "CREATE TEMP TABLE t (a)",
        "PRAGMA user_version = 7",
        "PRAGMA query_only = OFF",
        "ATTACH 'stolen.db' AS stolen",
        "VACUUM",
        "VACUUM INTO 'stolen.db'",
        "BEGIN IMMEDIATE",
        "SELECT 1; DELETE FROM runs",
        "SELEKT 1",
        "SELECT * FROM absent",
        "SELECT :name",
        "",
        "-- nothing",
    ],
)
def test_sql_refuses_whatever_is_no_single_readable_select_and_changes_nothing(
    registry: Registry, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(registry.database.conn.iterdump())
    with pytest.raises(RegistryError) as refused:
        sql(registry, statement)
    assert "\n" not in str(refused.value)
    assert list(registry.database.conn.iterdump()) == before
    assert not Path("stolen.db").exists()


def test_an_unknown_table_is_answered_with_the_tables_there_are(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"no such table: absent; .* architectures, .*measurements"):
        sql(registry, "SELECT * FROM absent")


def test_architectures_of_any_number_differ() -> None:
    assert len({architecture(number) for number in range(2000)}) == 2000
