from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registry_samples import ACCURACY, DEPTH, PPL, architecture, measurements, setting, shape, start

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import QUANTITIES, ComponentCost, Quantity
from prunecast.errors import RegistryError
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.problem.measured import Measured
from prunecast.registry.queries.compare_runs import compare
from prunecast.registry.queries.nearest import nearest
from prunecast.registry.queries.pairs import find_pairs, measured_by_others
from prunecast.registry.queries.pareto import pareto
from prunecast.registry.queries.ranges import Range, Ranges
from prunecast.registry.queries.selection import Filter, best, count, query
from prunecast.registry.queries.show import find_architecture, show
from prunecast.registry.queries.stats import mean_seconds, sql, stats
from prunecast.registry.records import Evaluation, ModelRecord, PluginRecord
from prunecast.registry.store import Registry
from prunecast.registry.upkeep.clean import delete_run

OTHER = setting(model=ModelRecord("abc" + "0" * 29, "other", shape()))
WIDTHS = (24, 20, 16, 8, 0)


def cut(width: int) -> Architecture:
    return Architecture([(4, 2, width)] * DEPTH)


def ppls(rows: list[dict[str, Any]]) -> list[float]:
    return [row[PPL.name] for row in rows]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Five architectures of two models, narrower ones with worse metrics; a second run that reuses one evaluation."""
    registry = Registry.open(tmp_path / "registry.db")
    run = start(registry)
    for under, ppl in ((setting(), 30.0), (OTHER, 60.0)):
        for width in WIDTHS:
            registry.record(run, "sample", under, cut(width), measurements(ppl - width), 2.0, "cpu")
    second = start(registry, "b" * 32, "second")
    registry.note_reuse(second, "verify", setting(), [cut(16)])
    return registry


def test_stats_count_records_and_time_saved_by_reuse(registry: Registry) -> None:
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


def test_the_mean_time_is_of_the_same_setting(registry: Registry) -> None:
    registry.record(1, "sample", OTHER, cut(4), measurements(50.0), 14.0, "cpu")
    assert mean_seconds(registry, setting()) == 2.0
    assert mean_seconds(registry, OTHER) == 4.0
    assert mean_seconds(registry, setting(dtype="bfloat16")) is None


def test_stats_of_an_empty_registry_are_zeros(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "empty.db") as registry:
        assert {value for name, value in stats(registry).items() if name != "bytes"} == {0}
        assert query(registry, Filter()) == []


def test_a_metric_called_like_a_column_has_a_column_of_its_own(registry: Registry) -> None:
    kept, parameters = (Metric(name, "maximize", "fraction") for name in ("kept", "parameters"))
    measured = [Measurement(kept, 7.0, None, 1), Measurement(parameters, 8.0, None, 1)]
    evaluator = PluginRecord("counts", 1, {}, "e" * 32, "prunecast")
    registry.record(1, "sample", setting(evaluator=evaluator), cut(16), measured, 1.0, "cpu")
    (row,) = best(registry, "kept", Filter(metrics=("parameters",)))
    assert (row["metric.kept"], row["metric.parameters"]) == (7.0, 8.0)
    size = int(shape().count([cut(16)])[0])
    assert (row["parameters"], row["kept"]) == (size, size / int(shape().count([shape().dense])[0]))
    (same,) = query(registry, Filter(metrics=("kept",), where='"metric.kept" = 7'), sort="-metric.kept")
    assert same["metric.kept.evaluator"] == "counts"
    (front,) = pareto(registry, ["kept", "parameters"], Filter()).rows
    assert front["key"] == cut(16).key


def test_the_run_of_a_row_is_one_that_the_architecture_can_be_exported_from(registry: Registry) -> None:
    def runs(wanted: Filter) -> list[int | None]:
        return [row["run"] for row in query(registry, wanted)]

    assert runs(Filter(model="tiny")) == [None] * 5  # none has finished
    registry.finish_run(1, "finished", {})
    registry.finish_run(2, "finished", {})
    assert runs(Filter(model="tiny")) == [1, 1, 2, 1, 1]
    assert runs(Filter(model="tiny", run=1)) == [1] * 5
    delete_run(registry, 1)
    assert runs(Filter(model="tiny")) == [2] * 5  # of the same pruner
    assert runs(Filter(model="other")) == [None] * 5


def test_count_is_that_of_the_rows_of_a_query(registry: Registry) -> None:
    for wanted in (Filter(), Filter(model="tiny", metrics=(PPL.name,)), Filter(run="second"), Filter(where="kept < 1")):
        assert count(registry, wanted) == len(query(registry, wanted)) > 0
    assert count(registry, Filter(), depth=DEPTH + 1) == 0


def test_query_rows_have_metrics_as_columns_and_a_parsable_architecture(registry: Registry) -> None:
    row = query(registry, Filter(model="tiny"))[1]
    assert list(row) == [
        *("model", "pruner", "dtype", PPL.name, ACCURACY.name, "parameters", "kept"),
        *(f"{PPL.name}.standard_error", f"{ACCURACY.name}.standard_error"),
        *(f"{PPL.name}.evaluator", f"{ACCURACY.name}.evaluator"),
        *("seconds", "measured_utc", "run", "key", "architecture"),
    ]
    assert Architecture.parse(row["architecture"]) == cut(20)
    counted, dense = shape().count([cut(20), cut(24)]).tolist()
    assert (row[PPL.name], row["parameters"], row["kept"], row["key"]) == (10.0, counted, counted / dense, cut(20).key)
    assert (row[f"{PPL.name}.standard_error"], row[f"{ACCURACY.name}.standard_error"]) == (0.5, None)


def test_query_filters_by_model_name_fingerprint_prefix_metric_and_run(registry: Registry) -> None:
    assert len(query(registry, Filter())) == 10
    assert ppls(query(registry, Filter(model="other"))) == [60.0 - w for w in WIDTHS]
    assert query(registry, Filter(model="abc")) == query(registry, Filter(model="other"))
    assert ppls(query(registry, Filter(run="second"))) == [14.0]
    assert ppls(query(registry, Filter(run="second", metrics=(PPL.name,)))) == [14.0]
    assert len(query(registry, Filter(), limit=3)) == 3


def test_query_with_metrics_requires_all_and_without_metrics_none(registry: Registry) -> None:
    other = Metric("ptb.test.ppl", "minimize", "perplexity", "log")
    ptb = setting(evaluator=PluginRecord("perplexity", 1, {"dataset": "ptb"}, "e" * 32, "prunecast"))
    registry.record(1, "sample", ptb, cut(8), [Measurement(other, 9.0, None, 5)], 1.0, "cpu")
    assert [row[other.name] for row in query(registry, Filter(model="tiny"))].count(None) == 4
    (both,) = query(registry, Filter(metrics=(PPL.name, other.name)))
    assert (both[PPL.name], both[other.name], both["seconds"]) == (22.0, 9.0, 3.0)


def test_budgets_are_ranges_and_conditions_are_sql_over_the_columns(registry: Registry) -> None:
    counted = dict(zip(WIDTHS, shape().count([cut(width) for width in WIDTHS]).tolist(), strict=True))
    tiny = Filter(model="tiny")
    between = replace(tiny, budget={"parameters": Range(counted[8], counted[20])})
    assert ppls(query(registry, between)) == [10.0, 14.0, 22.0]
    macs = int(shape().count([cut(20)], "macs")[0])
    assert ppls(query(registry, replace(tiny, budget={"macs": Range(macs, macs)}))) == [10.0]
    assert query(registry, tiny, sort="-macs")[0]["macs"] == int(shape().count([cut(24)], "macs")[0])
    without = int(shape().count([cut(8)], "parameters_without_embeddings")[0])
    assert ppls(query(registry, replace(tiny, budget={"parameters_without_embeddings": Range(None, without)}))) == [
        22,
        30,
    ]
    assert ppls(query(registry, replace(tiny, where=f'"{PPL.name}" < 15 AND kept < 1'))) == [10.0, 14.0]
    assert query(registry, replace(tiny, since="2h")) == query(registry, tiny)
    assert query(registry, replace(tiny, since="2999-01-01")) == []
    minute = query(registry, tiny)[0]["measured_utc"][:16]
    assert query(registry, replace(tiny, since=f"{minute}Z")) == query(registry, tiny)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("0.75..0.85", (75, 85)),
        ("0.8", (None, 80)),
        ("..190", (None, 190)),
        ("0.755..", (76, None)),
        ("2e2..5E2", (200, 500)),
        ("0..1", (0, 100)),
    ],
)
def test_ranges_are_fractions_or_counts_and_inclusive(text: str, limits: tuple[int | None, int | None]) -> None:
    assert Range.parse(text).absolute(100) == limits


@pytest.mark.parametrize("text", ["70", "70..", "0.5..70", "1.5..1000", "..100"])
def test_a_range_in_percent_is_asked_about(text: str) -> None:
    with pytest.raises(
        RegistryError, match=r"would be .* bytes; write 0\.\d* for .* %, or a number above 100|write 1 for"
    ):
        Range.parse(text, "kv_cache_bytes")


@pytest.mark.parametrize("text", ["", "..", "a..b", "0.8,0.9", "-1", "1...2"])
def test_an_invalid_range_is_refused(text: str) -> None:
    with pytest.raises(RegistryError, match="is no range: write"):
        Range.parse(text)


def test_query_sorts_by_a_column_and_breaks_ties_consistently(registry: Registry) -> None:
    values = ppls(query(registry, Filter(), sort=f"-{PPL.name}"))
    assert values == sorted(values, reverse=True)
    by_kept = [(row["kept"], row["model"]) for row in query(registry, Filter(), sort="kept")]
    assert by_kept == sorted(by_kept, key=lambda pair: (pair[0], pair[1] == "other"))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Filter(model="absent"), "no model is called 'absent'.*: tiny, other"),
        (Filter(model=""), "no model"),
        (Filter(metrics=("absent",)), f"{PPL.name}, {ACCURACY.name}"),
        (Filter(run="absent"), "no run"),
        (Filter(since="yesterday"), "is no time"),
        (Filter(since="2026-13-45"), "is no time"),
        (Filter(since="99999999999d"), "is no time"),
        (Filter(where="absent < 1"), "no such column: absent; write an SQL condition over model"),
        (Filter(where='"absent" < 1'), "no column is called 'absent'"),
        (Filter(where="1); DROP TABLE runs; --"), "one statement at a time"),
        (Filter(where="(SELECT count(*) FROM pragma_table_list) > 0"), "not authorized|prohibited|no such table"),
    ],
)
def test_unknown_names_and_invalid_conditions_are_refused_with_the_choices(
    registry: Registry, wanted: Filter, message: str
) -> None:
    with pytest.raises(RegistryError, match=message) as refused:
        query(registry, wanted)
    assert "\n" not in str(refused.value)


def test_an_unknown_sort_column_is_refused_with_the_columns(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="sort by one of: model, pruner"):
        query(registry, Filter(), sort="value; DROP TABLE runs")


def test_best_follows_the_direction_of_the_metric(registry: Registry) -> None:
    assert ppls(best(registry, PPL.name, Filter(model="tiny"))) == [6.0, 10.0, 14.0, 22.0, 30.0]
    accuracies = [row[ACCURACY.name] for row in best(registry, ACCURACY.name, Filter())]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(accuracies) == 10
    assert len(best(registry, PPL.name, Filter(), limit=3)) == 3


def test_best_within_a_budget_has_the_largest_architecture_that_fits(registry: Registry) -> None:
    counted, dense = shape().count([cut(16), cut(24)]).tolist()
    tiny = Filter(model="tiny", budget={"parameters": Range(None, counted)})
    fitting = best(registry, PPL.name, tiny)
    assert ppls(fitting) == [14.0, 22.0, 30.0]
    assert best(registry, PPL.name, replace(tiny, budget={"parameters": Range(None, (counted + 1) / dense)})) == fitting
    assert best(registry, PPL.name, replace(tiny, budget={"parameters": Range(None, 0.001)})) == []


def test_two_evaluators_of_one_metric_are_two_series(registry: Registry) -> None:
    more = setting(evaluator=PluginRecord("perplexity", 1, {"tokens": 9999}, "d" * 32, "prunecast"))
    registry.record(1, "sample", more, cut(20), measurements(11.0), 1.0, "cpu")
    assert ppls(query(registry, Filter(model="tiny"))) == [6.0, 10.0, 14.0, 22.0, 30.0]
    rows = best(registry, PPL.name, Filter(model="tiny"))
    assert sorted(ppls(rows)) == [6.0, 10.0, 11.0, 14.0, 22.0, 30.0]
    by = {row[PPL.name]: row[f"{PPL.name}.evaluator"] for row in rows}
    assert by.pop(11.0) == "perplexity tokens=9999"
    assert set(by.values()) == {"perplexity tokens=64"}
    assert ppls(query(registry, Filter(metrics=(PPL.name,), where=f"\"{PPL.name}.evaluator\" LIKE '%9999'"))) == [11.0]


# ----------------------------------------------------------------------------------------- fronts, nearest, pairs


@pytest.fixture(scope="module")
def random_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """60 random architectures with coarse random numbers, so that there are ties, under two pruners."""
    registry = Registry.open(tmp_path_factory.mktemp("random") / "registry.db")
    run, rng = start(registry), np.random.default_rng(0)
    pruners = (setting(), setting(pruner=PluginRecord("magnitude", 1, {}, None, "prunecast")))
    for number in range(60):
        kept = Architecture(
            np.stack([rng.integers(0, 5, 3), rng.integers(0, 3, 3), rng.integers(0, 25, 3)], 1).tolist()
        )
        ppl, accuracy = (int(value) / 2 for value in rng.integers(1, 40, 2))
        measured = [Measurement(PPL, ppl, 0.5, 64), Measurement(ACCURACY, accuracy, None, 20)]
        registry.record(run, "sample", pruners[number % 2], kept, measured, 1.0, "cpu")
    return registry


@pytest.mark.parametrize(
    "criteria",
    [
        (PPL.name, "parameters"),
        (ACCURACY.name, "parameters"),
        ("kv_cache_bytes", ACCURACY.name),
        (PPL.name, ACCURACY.name),
        (PPL.name, ACCURACY.name, "parameters"),
        (ACCURACY.name, "macs", "kv_cache_bytes"),
    ],
)
@pytest.mark.parametrize("budget", [{}, {"parameters": Range(0.3, 0.9)}])
def test_a_pareto_front_equals_that_of_comparing_all_pairs(
    random_registry: Registry, criteria: tuple[str, ...], budget: Ranges
) -> None:
    wanted = Filter(budget=budget, metrics=(PPL.name, ACCURACY.name))
    rows = query(random_registry, wanted)
    counted = {
        name: shape().count([Architecture.parse(row["architecture"]) for row in rows], name) for name in QUANTITIES
    }
    points = [
        tuple(
            counted[name][i] if name in QUANTITIES else row[name] * (-1 if name == ACCURACY.name else 1)
            for name in criteria
        )
        for i, row in enumerate(rows)
    ]
    beaten = [any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points) for p in points]
    expected = sorted(row["key"] for row, loses in zip(rows, beaten, strict=True) if not loses)
    assert sorted(row["key"] for row in pareto(random_registry, criteria, wanted).rows) == expected
    assert 1 < len(expected) < len(rows)


@pytest.mark.parametrize(
    "criteria",
    [(PPL.name,), ("parameters", "macs"), (PPL.name, PPL.name), (PPL.name, "parameters", "macs", ACCURACY.name)],
)
def test_a_pareto_front_needs_two_or_three_criteria_with_a_metric(
    registry: Registry, criteria: tuple[str, ...]
) -> None:
    with pytest.raises(RegistryError, match="two or three different criteria and at least one metric"):
        pareto(registry, criteria, Filter())


def test_a_pareto_front_includes_all_equal_points(registry: Registry) -> None:
    twin = Architecture([(4, 2, 24), (4, 2, 20), (4, 2, 16)])
    registry.record(1, "sample", setting(), twin, measurements(10.0), 1.0, "cpu")
    assert ppls(pareto(registry, [PPL.name, "parameters"], Filter(model="tiny")).rows) == [
        6.0,
        10.0,
        10.0,
        14.0,
        22.0,
        30.0,
    ]


def test_nearest_architectures_differ_in_the_fewest_parameters(random_registry: Registry) -> None:
    target = Architecture([(4, 1, 20), (0, 0, 12), (2, 2, 0)])

    def distance(text: str) -> float:
        apart = 0
        for kept, other in zip(Architecture.parse(text).layers, target.layers, strict=True):
            apart += 1024 * abs(kept.kv_groups - other.kv_groups) + 192 * abs(kept.mlp_width - other.mlp_width)
            apart += 1024 * abs(kept.query_heads - other.query_heads)
        return apart / (3 * (1024 * 4 + 1024 * 8 + 192 * 24))

    everything = sorted(distance(row["architecture"]) for row in query(random_registry, Filter()))
    found = nearest(random_registry, target, Filter(), limit=60)
    assert [row["distance"] for row in found] == pytest.approx(everything)
    assert [row["distance"] for row in found[:7]] == [distance(row["architecture"]) for row in found[:7]]
    again = Architecture.parse(found[3]["architecture"])
    assert nearest(random_registry, again, Filter(), limit=1)[0]["distance"] == 0.0


MIXED = replace(
    shape(),
    layers=(
        replace(shape().layers[0], window=50),
        replace(shape().layers[1], attention=ComponentCost(base=1, unit=700, head=300), shared=5),
        replace(shape().layers[2], mlp=ComponentCost(base=0, unit=99, unit_vectors=9)),
    ),
)


@pytest.fixture
def mixed_registry(tmp_path: Path) -> Registry:
    """Sixty random architectures of a model whose layers differ in cost, beside the same of one whose layers do not."""
    registry = Registry.open(tmp_path / "mixed.db")
    run, rng = start(registry), np.random.default_rng(3)
    sizes = np.stack([rng.integers(0, most + 1, (60, DEPTH)) for most in (4, 2, 24)], axis=-1)
    for under in (setting(), setting(model=ModelRecord("d" * 32, "mixed", MIXED))):
        batch = [Evaluation(under, each, measurements(9.0), 1.0, "cpu") for each in Architecture.from_sizes(sizes)]
        registry.record_many(run, "pairs", batch)
    return registry


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_costs_of_layers_that_differ_are_counted_by_position(mixed_registry: Registry, quantity: Quantity) -> None:
    for name, sizes in (("tiny", shape()), ("mixed", MIXED)):
        rows = query(mixed_registry, Filter(model=name, budget={quantity: Range(0.0, 1.0)}))
        counted = sizes.count([Architecture.parse(row["architecture"]) for row in rows], quantity)
        assert [row[quantity] for row in rows] == counted.tolist()
        middle = int(np.median(counted))
        within = query(mixed_registry, Filter(model=name, budget={quantity: Range(None, middle)}))
        assert len(within) == (counted <= middle).sum() < len(rows) == 60


def test_the_distance_weighs_layers_by_their_own_costs(mixed_registry: Registry) -> None:
    without = [Architecture([(4, 2, 24 * (n != at)) for n in range(DEPTH)]) for at in range(DEPTH)]
    run = mixed_registry.runs()[0].id
    under = setting(model=ModelRecord("d" * 32, "mixed", MIXED))
    mixed_registry.record_many(
        run, "pairs", [Evaluation(under, each, measurements(9.0), 1.0, "cpu") for each in without]
    )
    found = nearest(mixed_registry, MIXED.dense, Filter(model="mixed"), limit=3)
    whole = 4 * 1024 + 8 * 1024 + 24 * 192 + 4 * 700 + 8 * 300 + 24 * 192 + 4 * 1024 + 8 * 1024 + 24 * 99
    assert [row["distance"] for row in found] == pytest.approx([24 * 99 / whole, 24 * 192 / whole, 24 * 192 / whole])
    assert found[0]["architecture"] == str(without[2])
    assert {row["architecture"] for row in found} == set(map(str, without))


def test_nearest_refuses_an_architecture_of_another_depth(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="has 1 layer, the measured ones 3"):
        nearest(registry, Architecture([(4, 2, 24)]), Filter())


def test_an_architecture_is_found_by_its_text_or_key_prefix(registry: Registry) -> None:
    assert find_architecture(registry, str(cut(16))) == cut(16)
    assert find_architecture(registry, cut(16).key[:7]) == cut(16)
    for wrong, message in (
        ("ffffffff", "no architecture has a key that starts with ffffffff"),
        ("4x", "is not a layer"),
    ):
        with pytest.raises(RegistryError, match=message):
            find_architecture(registry, wrong)


def test_an_architecture_is_shown_with_its_measurements_and_their_runs(registry: Registry) -> None:
    shown = show(registry, cut(16))
    assert [model["model"] for model in shown["models"]] == ["tiny", "other"]
    assert [row["value"] for row in shown["measurements"] if row["metric"] == PPL.name] == [14.0, 44.0]
    assert {row["run_name"] for row in shown["measurements"]} == {"first"}
    assert shown["models"][0]["layers"][2] == {
        **{"layer": 2, "kv_groups": 4, "heads_per_group": 2, "mlp_width": 16},
        **{"dense_kv_groups": 4, "dense_heads_per_group": 2, "dense_mlp_width": 24},
    }
    with pytest.raises(RegistryError, match="has not been measured; prunecast registry nearest"):
        show(registry, cut(1))


def test_two_runs_are_compared_by_results_and_spec_differences(registry: Registry) -> None:
    registry.finish_run(1, "finished", {"best": {"parameters": 5, "metrics": {PPL.name: 10.0}}})
    third = registry.start_run("c" * 32, "third", '{"a":{"b":[1,2]}}', "").id
    registry.finish_run(third, "finished", {"best": {"parameters": 7, "metrics": {PPL.name: 9.5}}})
    rows = {row.pop("what"): row for row in compare(registry, 1, "third")}
    assert rows["best: parameters"] == {"first": 5, "second": 7, "difference": 2}
    assert rows[f"best: {PPL.name}"]["difference"] == -0.5
    assert rows["measured"] == {"first": 10, "second": 0, "difference": -10}
    assert {what for what in rows if what.startswith("spec: ")} == {"spec: a", "spec: a.b.0", "spec: a.b.1"}
    assert {row.pop("what"): row for row in compare(registry, 1, 2)}["evaluations in both"]["first"] == 1


def test_pairs_have_architectures_and_a_frame_with_metrics_as_columns(registry: Registry) -> None:
    pairs = find_pairs(registry, model="tiny", metrics=[PPL.name, ACCURACY.name])
    assert pairs.architectures == [cut(width) for width in WIDTHS]
    assert pairs.frame[PPL.name].tolist() == [30.0 - width for width in WIDTHS]
    assert pairs.frame["architecture"].tolist() == [str(cut(width)) for width in WIDTHS]
    measured = Measured.of_pairs(pairs)
    np.testing.assert_allclose(
        measured.targets, np.column_stack([np.log(pairs.frame[PPL.name]), pairs.frame[ACCURACY.name]])
    )
    lost = measured.relative_to(pairs.series.shape.dense)
    assert lost is not None
    np.testing.assert_allclose(lost[0], 0.0)
    with pytest.raises(RegistryError, match="all under one pruner"):
        find_pairs(registry, model="tiny", metrics=[PPL.name], pruner="absent")


def test_a_continued_run_finds_the_same_pairs_of_other_runs(registry: Registry) -> None:
    both = [setting(), setting(evaluator=PluginRecord("accuracy", 1, {}, "e" * 32, "prunecast"))]
    first = start(registry)
    registry.record(first, "pairs", both[1], cut(24), measurements(3.0), 1.0, "cpu")
    registry.record(first, "pairs", both[1], cut(12), measurements(3.0), 1.0, "cpu")
    assert measured_by_others(registry, both, "c" * 32) == [cut(24)]
    mine = start(registry, "c" * 32, "mine")
    registry.record(mine, "pairs", both[1], cut(16), measurements(3.0), 1.0, "cpu")  # the other metric exists already
    registry.record(mine, "pairs", both[0], cut(12), measurements(3.0), 1.0, "cpu")
    for under in both:
        registry.record(mine, "pairs", under, cut(4), measurements(3.0), 1.0, "cpu")
    assert start(registry, "c" * 32, "mine") == mine
    assert measured_by_others(registry, both, "c" * 32) == [cut(24)]
    assert set(measured_by_others(registry, both, "b" * 32)) == {cut(24), cut(16), cut(12), cut(4)}
    delete_run(registry, first)
    assert measured_by_others(registry, both, "c" * 32) == [cut(24)]
    assert measured_by_others(registry, both, "f" * 32) == measured_by_others(registry, both, "b" * 32)


# ------------------------------------------------------------------------------------------------------------ SQL


def test_sql_reads_tables_and_views(registry: Registry) -> None:
    assert sql(registry, "SELECT count(*) AS n FROM metric_measurements;") == [{"n": 20}]
    key = sql(registry, "WITH a AS (SELECT key FROM architectures ORDER BY id) SELECT key FROM a LIMIT 1")
    assert key == [{"key": cut(24).key}]


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("SELECT 1 AS a, 2 AS a, 3 AS b, 4 AS a", {"a": 1, "a_2": 2, "b": 3, "a_3": 4}),
        ("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a", {"a": 1, "a_3": 2, "a_2": 3, "a_4": 4}),
        ("SELECT x.n, y.n FROM (SELECT 1 AS n) x JOIN (SELECT 2 AS n) y", {"n": 1, "n_2": 2}),
    ],
)
def test_columns_of_the_same_name_are_numbered(registry: Registry, statement: str, row: dict[str, int]) -> None:
    assert [list(each.items()) for each in sql(registry, statement)] == [list(row.items())]


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
def test_sql_refuses_anything_but_one_select_statement(
    registry: Registry, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(registry.database.conn.iterdump())
    with pytest.raises(RegistryError) as refused:
        sql(registry, statement)
    assert "\n" not in str(refused.value)
    assert list(registry.database.conn.iterdump()) == before
    assert not Path("stolen.db").exists()


def test_an_unknown_table_is_refused_with_the_tables(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"no such table: absent; .* architectures, .*measurements"):
        sql(registry, "SELECT * FROM absent")


def test_architectures_of_different_numbers_differ() -> None:
    assert len({architecture(number) for number in range(2000)}) == 2000
