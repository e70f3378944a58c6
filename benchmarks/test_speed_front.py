"""What ``speed_front.py`` takes from a registry; no model is timed."""

import numpy as np
import pytest
from registry_samples import PPL, measurements, setting, shape, start
from speed_front import Recorded, chosen, is_uniform, recorded

from prunecast.architecture.architecture import Architecture
from prunecast.registry import PluginRecord, Registry


def test_each_architecture_has_its_best_value_by_the_evaluator_with_most(tmp_path) -> None:
    path = tmp_path / "registry.db"
    other = setting(evaluator=PluginRecord("perplexity", 1, {"tokens": 9}, "d" * 32, "prunecast"))
    with Registry.open(path) as registry:
        run = start(registry)
        for under, text, ppl in (
            (other, "4x2+24*3", 1.0),
            (setting(), "4x2+8*3", 30.0),
            (setting(), "4x2+24*3", 20.0),
            (setting(dtype="bfloat16"), "4x2+8*3", 25.0),
        ):
            registry.record(run, "sample", under, Architecture.parse(text), measurements(ppl), 1.0, "cpu")
    found = recorded(path, "tiny", PPL.name, shape())
    assert list(map(str, found.architectures)) == ["4x2+24*3", "4x2+8*3"]
    assert found.values.tolist() == [1.0, 1.25]
    assert found.evaluator == "perplexity tokens=64"


@pytest.mark.parametrize(
    ("text", "uniform"),
    [
        ("4x2+24*3", False),
        ("4x2+8*3", True),
        ("4x2+24 2x2+8 2x2+9", True),
        ("4x2+24 2x2+8 2x2+10", False),
        ("4x2+24 2x2+8 4x2+8", False),
    ],
)
def test_layers_that_are_pruned_are_alike_in_a_uniform_architecture(text: str, uniform: bool) -> None:
    assert is_uniform(Architecture.parse(text), shape()) == uniform


def test_the_best_that_is_not_slower_is_chosen() -> None:
    found = Recorded([], np.array([1.0, 1.5, 1.25, 2.0]), "")
    shares = np.array([1.0, 0.7, 0.8, 0.5])
    assert [chosen(found, shares, size, range(4)) for size in (1.0, 0.8, 0.7, 0.4)] == [0, 2, 1, None]
    assert chosen(found, shares, 0.8, [1, 3]) == 1
