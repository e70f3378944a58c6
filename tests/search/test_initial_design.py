"""Which architectures are measured before the first fit."""

from typing import Any

import numpy as np
import pytest
from workplace import Workplace

from prunecast.architecture.architecture import sizes_of
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.run import collect
from prunecast.search.initial_design import propose
from prunecast.spec.load import load_spec

SPACE = {"use": "layerwise", "attention": [0.0, 0.5, 1.0], "mlp": [0.0, 0.25, 0.5, 0.75, 1.0]}


@pytest.fixture
def setup_of(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workplace.folder)

    def make(**changes: Any) -> Setup:
        workplace.write_spec("proposing", {"space": SPACE, "budget": {"parameters": 0.8}, **changes})
        host = PluginHost.discover()
        return Setup(load_spec("proposing.yaml", host), host)

    return make


def test_one_in_ten_proposals_cuts_the_mlps_alike_and_nothing_else(setup_of: Any) -> None:
    setup = setup_of(collect={"pairs": 40, "band": 0.05})
    proposals = propose(setup)
    assert len(proposals) == len(set(proposals)) == 40
    even, shares = sizes_of(proposals)[:4], setup.shape.count(proposals) / setup.dense_count("parameters")
    assert (even[..., :2] == sizes_of([setup.shape.dense])[..., :2]).all()
    widths = even[..., 2]
    assert (np.ptp(widths, axis=1) <= 24 / 4).all()  # one step, where the budget lies between two
    assert (np.diff(shares[:4]) > 0).all()
    assert 0.73 <= shares.min() <= shares.max() <= 0.85


def test_more_pairs_begin_with_the_same_random_ones(setup_of: Any) -> None:
    fewer, more = (set(propose(setup_of(collect={"pairs": count, "band": 0.05}))) for count in (8, 60))
    assert len(fewer - more) == 0


def test_a_few_proposals_lie_on_both_sides_of_the_target(setup_of: Any) -> None:
    setup = setup_of(collect={"pairs": 8, "band": 0.05})
    shares = setup.shape.count(propose(setup)) / setup.dense_count("parameters")
    assert len(shares) == 8
    assert shares.min() < 0.77
    assert shares.max() > 0.83


def test_no_cut_is_even_where_proposals_are_as_the_space_draws_them(setup_of: Any) -> None:
    setup = setup_of(collect={"pairs": 40, "band": None})
    indices = setup.space.sample(40, setup.rng("collect", 0))
    assert len(propose(setup)) <= 40 == len(indices)
    assert len({architecture.layers[0].mlp_width for architecture in propose(setup)[:4]}) > 1


def test_proposals_go_to_the_budgets_they_are_nearest_to(setup_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = {"attention": [1.0, 1.0], "mlp": [0.0, 1.0]}
    setup = setup_of(space=SPACE | {"sampling": sampling}, collect={"pairs": 64, "band": 0.1})

    def heads_kept() -> float:
        kept = sizes_of(propose(setup))
        return float((kept[..., 0] * kept[..., 1]).mean())

    drawn_whole = heads_kept()
    monkeypatch.setattr(
        collect, "nearest_to_each", lambda usage, count: np.arange(count * len(usage)).reshape(-1, count)
    )
    assert heads_kept() < drawn_whole


def test_every_budget_gets_the_nearest_of_what_is_left() -> None:
    usage = np.array([[0.2, 0.99, 1.02, 1.6, 3.0, 1.0], [0.1, 0.5, 0.51, 0.8, 1.5, 0.5]])
    first, second = collect.nearest_to_each(usage, 2)
    assert first.tolist() == [5, 1]
    assert second.tolist() == [3, 4]
