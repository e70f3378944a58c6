"""Models and metrics of a registry."""

from pathlib import Path

import pytest
from registry_samples import ACCURACY, PPL, architecture, measurements, setting, shape, start

from prunecast.errors import RegistryError
from prunecast.registry.queries.contents import metrics, models
from prunecast.registry.records import ModelRecord
from prunecast.registry.store import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two architectures of one model, one of them measured for another as well."""
    registry = Registry.open(tmp_path / "registry.db")
    run = start(registry)
    other = setting(model=ModelRecord("abc" + "0" * 29, "other", shape()))
    for under, sizes in ((setting(), (8, 16)), (other, (8,))):
        for size in sizes:
            registry.record(run, "sample", under, architecture(size), measurements(30.0), 1.0, "cpu")
    return registry


def test_models_are_listed_with_what_is_measured_of_them(registry: Registry) -> None:
    tiny, other = models(registry)
    assert (tiny["model"], tiny["key"], tiny["family"], tiny["layers"]) == ("tiny", "f" * 32, "llama", 3)
    assert tiny["parameters"] == int(shape().count([shape().dense])[0])
    assert [(row["architectures"], row["metrics"], row["runs"]) for row in (tiny, other)] == [(2, 2, 1), (1, 2, 1)]


def test_metrics_are_listed_for_each_model(registry: Registry) -> None:
    rows = [(row["metric"], row["model"], row["better"], row["architectures"]) for row in metrics(registry)]
    assert rows == [
        (ACCURACY.name, "tiny", "larger", 2),
        (PPL.name, "tiny", "smaller", 2),
        (ACCURACY.name, "other", "larger", 1),
        (PPL.name, "other", "smaller", 1),
    ]
    assert metrics(registry, "abc0") == metrics(registry, "other") == metrics(registry)[2:]


def test_an_unknown_model_is_told_with_those_there_are(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no model is called 'big'; it holds: tiny, other"):
        metrics(registry, "big")
