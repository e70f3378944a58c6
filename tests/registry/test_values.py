"""Values are read back from the registry unchanged or are refused; none becomes NULL or a BLOB."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_samples import PPL, architecture, setting, shape, start

from prunecast.errors import RegistryError
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry.records import Evaluation, ModelRecord, PluginRecord
from prunecast.registry.store import Registry
from prunecast.registry.upkeep.verify import problems

STORED = "SELECT typeof(value), typeof(standard_error), typeof(count), value, standard_error, count FROM metric_values"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry.db")


def keep(registry: Registry, measurement: Measurement, number: int = 1) -> None:
    registry.record(start(registry), "pairs", setting(), architecture(number), [measurement], 1.0, "cpu")


def stored(registry: Registry) -> tuple[Any, ...]:
    (row,) = registry.rows(STORED)
    return tuple(row.values())


NUMBERS = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 3, True, 2**60]
"""Also as numpy and torch have them."""


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["python", "float64", "float32", "0d array", "torch", "bfloat16"])
def test_numbers_of_every_library_are_read_back_as_equal_floats(registry: Registry, number: Any, kind: str) -> None:
    import torch

    if kind in ("float32", "bfloat16"):
        number = float(np.clip(number, -1e30, 1e30))
    given = {
        "python": lambda: number,
        "float64": lambda: np.float64(number),
        "float32": lambda: np.float32(number),
        "0d array": lambda: np.array(number),
        "torch": lambda: torch.tensor(number, dtype=torch.float64),
        "bfloat16": lambda: torch.tensor(number, dtype=torch.bfloat16),
    }[kind]()
    keep(registry, Measurement(PPL, given, None, 1))
    kind_of_value, kind_of_error, kind_of_count, value, error, count = stored(registry)
    assert (kind_of_value, kind_of_error, kind_of_count) == ("real", "null", "integer")
    assert (value, error, count) == (float(given), None, 1)


@pytest.mark.parametrize("count", [0, 1, 2**53 + 1, 2**62 + 1, 2**63 - 1])
@pytest.mark.parametrize("kind", [int, np.int64, np.uint64])
def test_a_64_bit_count_is_exact(registry: Registry, count: int, kind: type) -> None:
    keep(registry, Measurement(PPL, 1.0, None, kind(count)))
    assert stored(registry)[2:] == ("integer", 1.0, None, count)


def test_a_torch_count_is_exact(registry: Registry) -> None:
    import torch

    keep(registry, Measurement(PPL, 1.0, None, torch.tensor(2**53 + 1)))  # type: ignore[arg-type]
    assert stored(registry)[5] == 2**53 + 1


@pytest.mark.parametrize(
    ("value", "error", "count"),
    [
        *((bad, None, 1) for bad in (math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, "31.5", None, 1j)),
        *((bad, None, 1) for bad in (np.array([1.0, 2.0]), b"31.5", [31.5], object())),
        *((1.0, bad, 1) for bad in (math.nan, math.inf, -1.0, "few", np.array([1.0, 2.0]))),
        *((1.0, None, bad) for bad in (-1, 2**63, 1.5, 64.0, "64", None, np.uint64(2**63), np.float32(64), math.nan)),
    ],
)
def test_invalid_numbers_are_refused_in_one_line_and_nothing_is_written(
    registry: Registry, value: Any, error: Any, count: Any
) -> None:
    with pytest.raises(RegistryError, match=r"^wikitext2\.validation\.ppl of 4x2\+1 .*; it was not recorded$"):
        keep(registry, Measurement(PPL, value, error, count))
    assert list(registry.rows(STORED)) == []


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=TEXTS, option=TEXTS, source=TEXTS, device=TEXTS, stage=TEXTS)
def test_names_of_any_script_are_stored_and_found(
    tmp_path_factory: pytest.TempPathFactory, name: str, option: str, source: str, device: str, stage: str
) -> None:
    under = setting(
        model=ModelRecord("f" * 32, source, shape()),
        pruner=PluginRecord(name, 1, {option: option}, None, source),
    )
    metric = Metric(name, "minimize", option)
    with Registry.open(tmp_path_factory.mktemp("names") / "registry.db") as registry:
        run = registry.start_run("a" * 32, name, "{}", option).id
        registry.record_many(
            run, stage, [Evaluation(under, architecture(1), [Measurement(metric, 2.5, None, 1)], 1.0, device)]
        )
        assert registry.lookup(under, [architecture(1)])[architecture(1)][name].value == 2.5
        (row,) = registry.rows(
            "SELECT model, pruner, metric, unit, device, pruner_distribution FROM metric_measurements"
        )
        assert tuple(row.values()) == (source, name, name, option, device, source)
        assert (registry.run(run).name, registry.run(run).spec_text) == (name, option)
        assert 2.5 in next(registry.rows("SELECT * FROM measurements")).values()
        assert list(problems(registry)) == []


def test_a_metric_name_that_cannot_be_a_column_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="null character"):
        keep(registry, Measurement(Metric("a\0b", "minimize", "x"), 1.0, None, 1))
    assert list(registry.rows(STORED)) == []


def test_text_that_is_not_valid_unicode_is_refused_in_one_line(registry: Registry) -> None:
    undecodable = "model-\udcff"  # a file name that is not UTF-8, as Python decodes it
    under = setting(model=ModelRecord("f" * 32, undecodable, shape()))
    with pytest.raises(RegistryError, match="no Unicode text"):
        registry.record(start(registry), "pairs", under, architecture(1), [Measurement(PPL, 1.0, None, 1)], 1.0, "cpu")
    assert list(registry.rows("SELECT * FROM models")) == []
