"""Labels tell apart all that one registry holds, and what several series match is said."""

from pathlib import Path

import pytest
from registry_samples import PPL, architecture, measurements, setting, start

from prunecast.plugins.host import PluginHost
from prunecast.predict.from_registry import predict_architecture
from prunecast.registry.queries.pairs import find_pairs
from prunecast.registry.queries.selection import Filter, query
from prunecast.registry.queries.series import find_series
from prunecast.registry.queries.show import show
from prunecast.registry.records import ModelRecord, PluginRecord, Setting
from prunecast.registry.store import Registry

COMPENSATED = {"compensate": {"method": "least-squares"}}


def pruner(data: str = "a", version: int = 1, code: str | None = None, **options: object) -> PluginRecord:
    return PluginRecord("obs", version, {**COMPENSATED, **options}, data * 32, "prunecast", code and code * 32)


def books(samples: int, dataset: str = "books") -> list[dict[str, object]]:
    return [{"dataset": dataset, "samples": samples}, {"dataset": "c4", "samples": 8}]


APART = {
    "calibration texts": [pruner("a", calibration=books(8)), pruner("b", calibration=books(8, "wikipedia"))],
    "numbers of samples": [pruner("a", calibration=books(8)), pruner("b", calibration=books(16))],
    "a default and a list": [pruner("a"), pruner("b", calibration=books(8))],
    "contents of one file": [pruner("a", calibration=books(8)), pruner("b", calibration=books(8))],
    "versions": [pruner(version=1), pruner(version=2)],
    "code": [pruner(code="1"), pruner(code="2")],
    "texts and samples at once": [pruner("a", calibration=books(8)), pruner("b", calibration=books(8)), pruner("c")],
}


def registry_of(path: Path, settings: list[Setting]) -> Registry:
    registry = Registry.open(path)
    run = start(registry)
    for place, each in enumerate(settings):
        for number in range(12 + place):
            registry.record(run, "pairs", each, architecture(number), measurements(30.0 + number + place), 1.0, "cpu")
    return registry


@pytest.mark.parametrize("pruners", APART.values(), ids=APART.keys())
def test_pruners_that_differ_have_different_labels_in_every_table(tmp_path: Path, pruners: list[PluginRecord]) -> None:
    with registry_of(tmp_path / "r.db", [setting(pruner=each) for each in pruners]) as registry:
        labels = [series.pruner_text for series in find_series(registry, "tiny", [PPL.name])]
        assert len(set(labels)) == len(pruners)
        assert all(label.startswith("obs compensate.method=least-squares") for label in labels)
        assert {row["pruner"] for row in query(registry, Filter(metrics=(PPL.name,)))} == set(labels)
        shown = show(registry, architecture(0))["measurements"]
        assert {row["pruner"] for row in shown} == set(labels)


def test_a_label_is_short_where_nothing_else_has_it(tmp_path: Path) -> None:
    with registry_of(tmp_path / "r.db", [setting(pruner=pruner(calibration=books(8)))]) as registry:
        (series,) = find_series(registry, "tiny", [PPL.name])
        assert series.pruner_text == "obs compensate.method=least-squares"


def test_models_of_one_source_and_evaluators_of_one_description_are_told_apart(tmp_path: Path) -> None:
    models = [ModelRecord(letter * 32, "models/mine", setting().model.shape) for letter in "12"]
    evaluators = [PluginRecord("perplexity", 1, {"dataset": "my.txt"}, letter * 32, "prunecast") for letter in "34"]
    with registry_of(
        tmp_path / "r.db",
        [setting(model=models[0]), *(setting(model=models[1], evaluator=each) for each in evaluators)],
    ) as registry:
        found = find_series(registry, "models/mine", [PPL.name])
        assert [series.model for series in found] == ["models/mine 11111111", *["models/mine 22222222"] * 2]
        assert [series.columns[0].evaluator_text for series in found[1:]] == [
            "perplexity dataset=my.txt text=33333333",
            "perplexity dataset=my.txt text=44444444",
        ]


def test_a_prediction_names_the_pairs_it_was_not_learned_from_and_how_to_choose_them(tmp_path: Path) -> None:
    pruners = APART["calibration texts"]
    with registry_of(tmp_path / "r.db", [setting(pruner=each) for each in pruners]) as registry:
        host = PluginHost.discover()
        _, [basis] = predict_architecture(registry, host, architecture(3), "tiny", [PPL.name], "gbdt", None, 0)
        assert "13 pairs" in basis
        assert "wikipedia" in basis
        other = "12 of tiny, obs compensate.method=least-squares calibration=books/8,c4/8, float32"
        assert f"{other} (pruner {pruners[0].key[:8]})" in basis
        chosen = find_pairs(registry, "tiny", [PPL.name], pruners[0].key[:8])
        assert len(chosen) == 12
        _, [basis] = predict_architecture(
            registry, host, architecture(3), "tiny", [PPL.name], "gbdt", pruners[0].key[:8], 0
        )
        assert "match" not in basis
