"""Placements: what they need, which one is chosen, and what fits nowhere."""

from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from workplace import SPEC, Workplace

from prunecast.errors import ModelError
from prunecast.measure.placement import Places, Work, placed
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.run.estimate import estimate
from prunecast.spec.load import load_spec

HOST = PluginHost.discover()


def setup_of(workplace: Workplace, **changes: Any) -> Setup:
    workplace.write_spec("tiny", changes)
    return Setup(load_spec(workplace.folder / "tiny.yaml", HOST), HOST)


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))


def test_all_is_on_the_device_where_that_fits(workplace: Workplace) -> None:
    assert placed(setup_of(workplace)) == Places("one", "one")


def test_calibration_is_streamed_where_only_that_fits(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNECAST_CACHE", str(workplace.folder / "cache"))  # in which nothing is calibrated
    setup = setup_of(workplace)
    needs = Work.of(setup.spec, setup.pruner, setup.shape, 4).needs()
    assert needs["stream"].calibration < needs["one"].calibration
    with_free(monkeypatch, needs["one"].calibration - 1)
    assert placed(setup).calibration == "stream"


def test_what_fits_nowhere_is_refused_with_the_amounts(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = setup_of(workplace)
    with_free(monkeypatch, 1000)
    with pytest.raises(
        ModelError, match=r"^[^\n]*one needs about [\d.]+ MiB, [\d.]+ MiB more than is free; stream needs[^\n]*$"
    ):
        placed(setup)


def test_a_device_alone_has_nothing_to_spread_over(workplace: Workplace) -> None:
    setup = setup_of(workplace, model=SPEC["model"] | {"placement": "spread"})
    with pytest.raises(ModelError, match="cpu is one device, with nothing to spread over"):
        placed(setup)


def test_the_paper_needs_more_than_24_gb_to_calibrate_unless_layers_are_streamed() -> None:
    memory = estimate(load_spec("paper", HOST), HOST).memory
    assert memory["one"].calibration > 4 * 6_738_415_616 * 1.9, "weights and gradients in float32"
    assert 2 * 6_738_415_616 < memory["one"].evaluation < 24e9
    assert memory["stream"].calibration < 0.35 * 2 * 6_738_415_616


def test_placement_is_in_no_key(workplace: Workplace) -> None:
    keys = set()
    for placement in ("auto", "one", "stream"):
        setup = setup_of(workplace, model=SPEC["model"] | {"placement": placement})
        keys.add((setup.spec.key, setup.ranking_record.key, setup.evaluators[0].setting.key))
    assert len(keys) == 1
