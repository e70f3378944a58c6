import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from registry_samples import ACCURACY, PPL, architecture, measurements, setting, shape, start

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.speed import LayerTimes, SpeedTable, Times
from prunecast.errors import RegistryError
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry.records import (
    Evaluation,
    ModelRecord,
    PluginRecord,
    Recorded,
    Setting,
    Timing,
    shape_from_json,
    shape_to_json,
)
from prunecast.registry.store import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry.db")


def test_recorded_evaluations_are_found_after_reopening(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "new" / "registry.db") as registry:
        registry.record(start(registry), "sample", setting(), architecture(7), measurements(31.5), 2.0, "cpu")
    with Registry.open(tmp_path / "new" / "registry.db", readonly=True) as registry:
        assert registry.lookup(setting(), [architecture(8), architecture(7)]) == {
            architecture(7): {PPL.name: Recorded(31.5, 0.5, 64), ACCURACY.name: Recorded(1 / 32.5, None, 20)}
        }


def test_a_lookup_of_thousands_is_complete_and_in_order(registry: Registry) -> None:
    run = start(registry)
    for number in (1200, 3, 500, 499, 0):
        registry.record(run, "sample", setting(), architecture(number), measurements(number + 1.0), 1.0, "cpu")
    found = registry.lookup(setting(), [architecture(number) for number in range(1300)])
    assert list(found) == [architecture(number) for number in (0, 3, 499, 500, 1200)]
    assert [numbers[PPL.name].value for numbers in found.values()] == [1.0, 4.0, 500.0, 501.0, 1201.0]


def changed_settings() -> list[Setting]:
    base = setting()
    return [
        setting(model=ModelRecord("e" * 32, "tiny", shape())),
        setting(pruner=PluginRecord("taylor", 1, {"order": 2}, "c" * 32, "prunecast")),
        setting(evaluator=PluginRecord("perplexity", 1, base.evaluator.options, "e" * 32, "prunecast")),
        setting(dtype="bfloat16"),
    ]


def test_settings_have_different_keys_exactly_if_the_registry_separates_them() -> None:
    renamed = setting(model=ModelRecord("f" * 32, "/another/source", shape()))
    assert renamed.key == setting().key
    assert len({setting().key, *(other.key for other in changed_settings())}) == 5


@pytest.mark.parametrize("other", changed_settings(), ids=["model", "pruner", "evaluator", "dtype"])
def test_a_value_is_not_found_under_another_setting(registry: Registry, other: Setting) -> None:
    run = start(registry)
    registry.record(run, "sample", setting(), architecture(1), measurements(31.5), 2.0, "cpu")
    assert registry.lookup(other, [architecture(1)]) == {}
    registry.record(run, "sample", other, architecture(1), measurements(40.0), 2.0, "cpu")
    assert registry.lookup(other, [architecture(1)])[architecture(1)][PPL.name].value == 40.0
    assert registry.lookup(setting(), [architecture(1)])[architecture(1)][PPL.name].value == 31.5


def test_model_source_and_distribution_do_not_affect_lookup(registry: Registry) -> None:
    registry.record(start(registry), "sample", setting(), architecture(1), measurements(31.5), 2.0, "cpu")
    elsewhere = setting(
        model=ModelRecord("f" * 32, "/another/source", shape()),
        pruner=PluginRecord("taylor", 1, {"order": 1}, "c" * 32, "a fork"),
    )
    assert registry.lookup(elsewhere, [architecture(1)])


def test_the_first_measurement_of_an_architecture_stays(registry: Registry) -> None:
    first, second = start(registry), start(registry, "b" * 32, "second")
    registry.record(first, "sample", setting(), architecture(1), measurements(31.5), 2.0, "cpu")
    registry.record(second, "sample", setting(), architecture(1), measurements(99.0), 2.0, "cuda")
    assert registry.lookup(setting(), [architecture(1)])[architecture(1)][PPL.name].value == 31.5
    links = list(registry.rows("SELECT run_id, position, cached FROM run_evaluations ORDER BY run_id"))
    assert [tuple(link.values()) for link in links] == [(first, 1, 0), (second, 1, 1)]


def test_numpy_and_torch_scalars_are_stored_as_numbers(registry: Registry) -> None:
    import torch

    values = [np.float32(31.5), np.int64(31), torch.tensor(31.5)]
    run = start(registry)
    for number, value in enumerate(values):
        measured = [Measurement(PPL, value, np.float32(0.5), np.int64(64))]  # type: ignore[arg-type]
        registry.record(run, "sample", setting(), architecture(number), measured, np.float32(2), "cpu")  # type: ignore[arg-type]
    kinds = "SELECT DISTINCT typeof(value), typeof(standard_error), typeof(count) FROM metric_values"
    assert [tuple(row.values()) for row in registry.rows(kinds)] == [("real", "real", "integer")]
    assert [row["value"] for row in registry.rows("SELECT value FROM metric_values ORDER BY evaluation_id")] == [
        31.5,
        31.0,
        31.5,
    ]


@pytest.mark.parametrize(
    ("measured", "seconds"),
    [
        (measurements(float("nan")), 1.0),
        (measurements(float("inf")), 1.0),
        (measurements(float(np.float32("nan"))), 1.0),
        (measurements(31.5, error=float("nan")), 1.0),
        (measurements(31.5, error=-0.1), 1.0),
        ([Measurement(PPL, 31.5, None, -1)], 1.0),
        (measurements(31.5), float("nan")),
        (measurements(31.5), -1.0),
        ([], 1.0),
        (measurements(31.5)[:1] * 2, 1.0),
    ],
)
def test_invalid_values_are_refused_and_nothing_is_written(
    registry: Registry, measured: list[Measurement], seconds: float
) -> None:
    run = start(registry)
    with pytest.raises(RegistryError):
        registry.record(run, "sample", setting(), architecture(1), measured, seconds, "cpu")
    assert registry.lookup(setting(), [architecture(1)]) == {}
    assert next(registry.rows("SELECT count(*) AS n FROM evaluations"))["n"] == 0


def test_a_failed_write_leaves_no_partial_evaluation(registry: Registry) -> None:
    run = start(registry)
    bad = Metric("x.y.z", "sideways", "fraction")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="CHECK"):
        registry.record(run, "sample", setting(), architecture(1), [Measurement(bad, 1.0, None, 1)], 1.0, "cpu")
    assert all(
        next(registry.rows(f"SELECT count(*) AS n FROM {table}"))["n"] == 0
        for table in ("models", "settings", "architectures", "evaluations", "metrics")
    )
    registry.record(run, "sample", setting(), architecture(1), measurements(31.5), 1.0, "cpu")


def test_reuse_is_linked_once_and_skips_missing_evaluations(registry: Registry) -> None:
    first, second = start(registry), start(registry, "b" * 32, "second")
    for number in (1, 2):
        registry.record(first, "sample", setting(), architecture(number), measurements(31.5), 2.0, "cpu")
    for _ in range(2):
        registry.note_reuse(second, "sample", setting(), [architecture(n) for n in (2, 3, 1)])
        registry.note_reuse(first, "sample", setting(), [architecture(1)])
    registry.note_reuse(second, "sample", setting(dtype="bfloat16"), [architecture(1)])
    links = registry.rows("SELECT run_id, position, evaluation_id, cached FROM run_evaluations ORDER BY 1, 2")
    assert [tuple(link.values()) for link in links] == [
        (first, 1, 1, 0),
        (first, 2, 2, 0),
        (second, 1, 2, 1),
        (second, 2, 1, 1),
    ]
    summary = list(
        registry.rows("SELECT measured, reused, seconds_spent, seconds_saved FROM run_summary ORDER BY run_id")
    )
    assert [tuple(row.values()) for row in summary] == [(2, 0, 4.0, 0.0), (0, 2, 0.0, 4.0)]


def test_an_evaluation_used_in_two_stages_is_counted_once_in_the_summary(registry: Registry) -> None:
    run = start(registry)
    registry.record(run, "sample", setting(), architecture(1), measurements(31.5), 2.0, "cpu")
    registry.note_reuse(run, "verify", setting(), [architecture(1)])
    summary = next(registry.rows("SELECT evaluations, measured, reused, seconds_saved FROM run_summary"))
    assert tuple(summary.values()) == (1, 1, 0, 0.0)


@pytest.mark.parametrize("status", ["running", "finished", "failed", "interrupted"])
def test_a_run_of_the_same_spec_is_resumed_however_it_ended(registry: Registry, status: str) -> None:
    started = registry.start_run("a" * 32, "first", "{}", "")
    if status != "running":
        registry.finish_run(started.id, status, {"kept": 0.8}, "why")  # type: ignore[arg-type]
    assert not started.resumed
    again = registry.start_run("a" * 32, "renamed", "{}", "name: renamed")
    assert (again.id, again.resumed) == (started.id, True)
    run = registry.run(again.id)
    assert (run.status, run.name, run.finished_utc, run.message) == ("running", "renamed", None, "")


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_finished_run_keeps_its_result_until_it_finishes_again(registry: Registry, status: str) -> None:
    run_id = start(registry)
    assert registry.run(run_id).result is None
    registry.finish_run(run_id, "finished", {"kept": 0.8})
    start(registry)
    assert (registry.run(run_id).status, registry.run(run_id).result) == ("running", {"kept": 0.8})
    registry.finish_run(run_id, status, None, "why")  # type: ignore[arg-type]
    run = registry.run(run_id)
    assert (run.status, run.result, run.message) == (status, {"kept": 0.8}, "why")
    start(registry)
    registry.finish_run(run_id, "finished", {"kept": 0.7})
    assert registry.run(run_id).result == {"kept": 0.7}


def test_a_finished_run_is_read_back_as_written(registry: Registry) -> None:
    run_id = start(registry)
    registry.finish_run(run_id, "finished", {"best": [1, 0.5], "name": "ä"}, "done")
    run = registry.run(run_id)
    assert (run.status, run.result, run.message) == ("finished", {"best": [1, 0.5], "name": "ä"}, "done")
    assert (run.spec_json, run.spec_text) == ('{"a":1}', "a: 1 # text\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", run.finished_utc or "")


def test_finishing_refuses_unknown_runs_and_non_json_results(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no run 5"):
        registry.finish_run(5, "finished", None)
    run = start(registry)
    with pytest.raises(RegistryError, match="JSON"):
        registry.finish_run(run, "finished", {"ppl": (float("nan"), 0.0)})
    assert registry.run(run).status == "running"


def test_runs_are_found_by_id_name_and_key_prefix(registry: Registry) -> None:
    keys = ("ab" * 16, "ab" * 8 + "ac" * 8, "7" * 32)
    ids = [start(registry, key, name) for key, name in zip(keys, ("x", "x", "y"), strict=True)]
    assert [run.id for run in registry.runs()] == ids[::-1]
    assert [run.id for run in registry.runs(limit=1)] == ids[2:]
    assert registry.run(str(ids[0])).id == ids[0]
    assert registry.run("x").id == ids[1]
    assert registry.run("ab" * 9).id == ids[0]
    assert registry.run("7777").id == ids[2]
    for wanted, message in (("abab", "2 runs"), ("z", "latest runs: 3 \\(y\\)"), ("", "no run"), ("77", "no run")):
        with pytest.raises(RegistryError, match=message):
            registry.run(wanted)


def test_a_model_shape_survives_json() -> None:
    assert shape_from_json(shape_to_json(shape())) == shape()


def test_views_resolve_the_normalised_tables(registry: Registry) -> None:
    pruned = Architecture([(4, 2, 24), (0, 0, 12), (1, 2, 0)])
    registry.record(start(registry), "sample", setting(), pruned, measurements(31.5), 2.0, "cpu")
    row = next(registry.rows("SELECT * FROM metric_measurements ORDER BY metric DESC"))
    assert Architecture.from_json(row["layers_json"]) == pruned
    assert row["architecture_key"] == pruned.key
    assert (row["model"], row["pruner"], row["evaluator"], row["metric"]) == ("tiny", "taylor", "perplexity", PPL.name)
    counted, dense = shape().count([pruned, shape().dense]).tolist()
    assert (row["parameters"], row["kept"]) == (counted, counted / dense)
    layers = registry.rows("SELECT layer, kv_groups, heads_per_group, mlp_width FROM architecture_layers")
    assert [tuple(layer.values()) for layer in layers] == [(i, *layer) for i, layer in enumerate(pruned.layers)]
    assert json.loads(row["pruner_options_json"]) == {"order": 1}


def test_a_thousand_evaluations_of_a_deep_model_stay_small(tmp_path: Path) -> None:
    deep = ModelRecord("f" * 32, "deep", shape(30))
    rng = np.random.default_rng(0)
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        run = start(registry)
        empty = _bytes(registry)
        under = setting(model=deep)
        batch = [
            Evaluation(under, Architecture([(w % 4, 3, w * 128) for w in widths]), measurements(3.0)[:1], 1.0, "cpu")
            for widths in rng.integers(1, 13, size=(1000, 30)).tolist()
        ]
        registry.record_many(run, "sample", batch)
        assert (_bytes(registry) - empty) / 1000 < 400


def _bytes(registry: Registry) -> int:
    row = next(registry.rows("SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size"))
    return int(row["bytes"])


def test_local_sensitivities_are_read_back_and_replaced_by_newer_ones(tmp_path: Path) -> None:
    changes = {(0, Layer(4, 2, 12)): (0.125, 0.5), (2, Layer(0, 0, 24)): (-0.5, 0.0)}
    with Registry.open(tmp_path / "registry.db") as registry:
        run = start(registry)
        assert registry.steps(setting(), architecture(1), 1) == {}
        registry.record_steps(run, setting(), architecture(1), 1, changes, 2.0)
        assert registry.steps(setting(), architecture(1), 1) == changes
        assert registry.steps(setting(), architecture(2), 1) == {}
        assert registry.steps(setting(), architecture(1), 2) == {}, "another version would estimate something else"
        assert registry.steps(setting(dtype="bfloat16"), architecture(1), 1) == {}
        more = changes | {(1, Layer(2, 1, 7)): (1e-17, 0.25)}
        registry.record_steps(run, setting(), architecture(1), 1, more, 1.0)
        assert registry.steps(setting(), architecture(1), 1) == more
        with pytest.raises(RegistryError, match="not finite"):
            registry.record_steps(run, setting(), architecture(1), 1, {(0, Layer(1, 1, 1)): (float("nan"), 0.0)}, 1.0)
        assert registry.steps(setting(), architecture(1), 1) == more


def test_a_table_of_component_times_is_found_under_its_conditions_and_the_first_one_is_kept(tmp_path: Path) -> None:
    layers = (LayerTimes(((1, 1, Times(5, 4)),), ((0, Times(0, 0)), (8, Times(7, 6)))),)
    table = SpeedTable(1, 16, Times(100, 50), (0, 0), layers)
    timing = Timing(shape(), [["1x1"], [0, 8]], "a processor", "float32", 1, 1, 16, "torch 2")
    with Registry.open(tmp_path / "registry.db") as registry:
        assert registry.speeds(timing) is None
        assert registry.keep_speeds(timing, table, 2.0) == table
        assert registry.keep_speeds(timing, replace(table, fixed=Times(1, 1)), 2.0) == table
    with Registry.open(tmp_path / "registry.db", readonly=True) as registry:
        assert registry.speeds(replace(timing, shape=shape().at(8))) == table
        others = ({"sizes": []}, {"device": "another"}, {"dtype": "bfloat16"}, {"threads": 2}, {"batch": 2})
        for other in (*others, {"context": 8}, {"engine": "torch 3"}):
            assert registry.speeds(replace(timing, **other)) is None
        (row,) = registry.rows("SELECT family, threads, batch, context, seconds FROM component_times")
        assert tuple(row.values()) == (shape().family, 1, 1, 16, 2.0)
