"""The views, compared with the same results computed in Python."""

from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registry_samples import ACCURACY, PPL, architecture, card, measurements, result, setting, shape, start

from prunecast.architecture.architecture import Architecture
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.predict.quality import Scores
from prunecast.registry.records import Evaluation, ModelRecord, PluginRecord
from prunecast.registry.store import Registry

LONGER = setting(evaluator=PluginRecord("perplexity", 1, {"tokens": 4096}, "e" * 32, "prunecast"))
OTHER_MODEL = setting(model=ModelRecord("e" * 32, "other", shape()))
OTHER_DTYPE = setting(dtype="bfloat16")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry.db")


def keep(registry: Registry, under: Any, number: int, *measured: Measurement) -> None:
    registry.record(start(registry), "pairs", under, architecture(number), measured, 1.0, "cpu")


def rows(registry: Registry, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in registry.rows(statement)]


def test_a_measurement_row_has_one_architecture_model_pruner_and_dtype(registry: Registry) -> None:
    keep(registry, setting(), 1, *measurements(30.0))
    keep(registry, LONGER, 1, Measurement(Metric("ptb.test.ppl", "minimize", "perplexity", "log"), 60.0, None, 9))
    keep(registry, OTHER_DTYPE, 1, *measurements(31.0)[:1])
    keep(registry, OTHER_MODEL, 2, *measurements(32.0)[:1])
    statement = f'SELECT model, dtype, architecture, "{PPL.name}", "{ACCURACY.name}", "ptb.test.ppl" FROM measurements'
    first, second = str(architecture(1)), str(architecture(2))
    assert rows(registry, statement) == [
        ("tiny", "float32", first, 30.0, 1 / 31, 60.0),
        ("tiny", "bfloat16", first, 31.0, None, None),
        ("other", "float32", second, 32.0, None, None),
    ]


def test_of_two_evaluators_of_one_metric_the_one_with_more_tokens_is_used(registry: Registry) -> None:
    keep(registry, setting(), 1, Measurement(PPL, 30.0, None, 64))
    keep(registry, LONGER, 1, Measurement(PPL, 40.0, None, 4096))
    keep(registry, setting(), 2, Measurement(PPL, 50.0, None, 64))
    assert rows(registry, f'SELECT "{PPL.name}" FROM measurements') == [(40.0,), (50.0,)]


@pytest.mark.parametrize("name", ['he said "ppl"', "it's", "größe.π.ppl", "model", "a;b--c", "{metrics}", "%s ?1 :x"])
def test_a_metric_of_any_name_becomes_a_column(registry: Registry, name: str) -> None:
    keep(registry, setting(), 1, *measurements(30.0))
    odd = Metric(name, "minimize", "fraction")
    keep(registry, LONGER, 1, Measurement(odd, 0.25, None, 9))
    (row,) = registry.rows("SELECT * FROM measurements")
    assert 0.25 in row.values()
    assert rows(registry, "SELECT metric FROM metric_measurements WHERE value = 0.25") == [(name,)]


def test_a_failed_batch_leaves_no_column_of_its_metric(registry: Registry) -> None:
    keep(registry, setting(), 1, *measurements(30.0))
    bad = Metric("new.metric", "sideways", "fraction")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="CHECK"):
        keep(registry, LONGER, 1, Measurement(bad, 1.0, None, 1))
    assert "new.metric" not in next(registry.rows("SELECT * FROM measurements"))


def test_architecture_texts_equal_those_of_python(registry: Registry) -> None:
    rng = np.random.default_rng(0)
    run = start(registry)
    sizes = np.stack([rng.integers(0, 3, (40, 8)), rng.integers(0, 3, (40, 8)), rng.integers(0, 2, (40, 8))], axis=-1)
    architectures = list(dict.fromkeys(Architecture.from_sizes(sizes)))
    under = setting(model=ModelRecord("d" * 32, "deep", shape(8)))
    registry.record_many(run, "pairs", [Evaluation(under, a, measurements(3.0), 1.0, "cpu") for a in architectures])
    for view in ("measurements", "metric_measurements"):
        texts = {text for (text,) in rows(registry, f"SELECT architecture FROM {view}")}
        assert texts == {str(a) for a in architectures}


def dominated(one: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    return any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in others)


def test_the_pareto_view_has_exactly_the_non_dominated_points(registry: Registry) -> None:
    rng = np.random.default_rng(1)
    run = start(registry)
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for under in (setting(), OTHER_DTYPE, LONGER, OTHER_MODEL):
        numbers = rng.permutation(15_625)[:150].tolist()
        values = rng.integers(1, 30, len(numbers)).tolist()  # few distinct values, for ties
        batch = [
            Evaluation(under, architecture(n), measurements(v), 1.0, "cpu")
            for n, v in zip(numbers, values, strict=True)
        ]
        registry.record_many(run, "pairs", batch)
        sizes = shape().count([architecture(n) for n in numbers]).tolist()
        comparable = (under.model.source, str(under.evaluator.options["tokens"]))
        points.setdefault(comparable, []).extend(zip(sizes, values, strict=True))
    for (model, tokens), group in points.items():
        front = sorted({point for point in group if not dominated(point, group)})
        where = f"model = '{model}' AND evaluator_options_json LIKE '%:{tokens}}}'"
        select = f"SELECT parameters, value FROM pareto WHERE {where} AND metric = "
        assert sorted(rows(registry, f"{select} '{PPL.name}'")) == front
        accuracies = sorted((size, 1 / (1 + value)) for size, value in front)
        assert sorted(rows(registry, f"{select} '{ACCURACY.name}'")) == accuracies


def test_the_quality_of_every_predictor_has_a_row_for_each_target(registry: Registry) -> None:
    judged, without = (registry.start_run(letter * 32, letter, "{}", "").id for letter in "ab")
    registry.finish_run(judged, "finished", result(card()).to_json())
    registry.finish_run(without, "finished", result(None).to_json())
    statement = "SELECT run_id, predictor, pairs, held_out, splits FROM quality_cards"
    assert rows(registry, statement) == [(judged, "gp", 40, 12, 10)] * 4
    names = [field.name for field in fields(Scores)]
    shown = rows(registry, f"SELECT target, {', '.join(names)} FROM quality_cards")
    scores = {**card().metrics, "objective": card().objective, "overall": card().overall}
    assert shown == [(target, *astuple(of_target)) for target, of_target in scores.items()]


def test_every_evaluation_has_the_versions_that_measured_it(registry: Registry) -> None:
    import platform
    from importlib.metadata import version

    under = setting(evaluator=PluginRecord("perplexity", 1, {}, None, "elsewhere 2.1"))
    keep(registry, under, 1, *measurements(30.0)[:1])
    statement = """SELECT pruner_distribution, evaluator_distribution, prunecast, python, torch, transformers, device,
        dtype, seconds FROM metric_measurements"""
    versions = [version("prunecast"), platform.python_version(), version("torch"), version("transformers")]
    assert rows(registry, statement) == [("prunecast", "elsewhere 2.1", *versions, "cpu", "float32", 1.0)]
