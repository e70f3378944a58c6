"""The initial design: its uniform architectures, its totals, and its reproducibility. No checkpoint is needed."""

from typing import Any

import numpy as np
import pytest
import yaml
from workplace import SPEC as WORKPLACE_SPEC
from workplace import TINY

from prunecast.architecture.architecture import Architecture, sizes_of
from prunecast.plugins.host import PluginHost
from prunecast.problem.problem import Problem
from prunecast.search import initial_design
from prunecast.search.initial_design import propose
from prunecast.spec.load import parse_spec

SPACE = {"use": "layerwise", "attention": [0.0, 0.5, 1.0], "mlp": [0.0, 0.25, 0.5, 0.75, 1.0]}


SPEC = WORKPLACE_SPEC | {"space": SPACE, "budget": {"parameters": 0.8}}
HOST = PluginHost.discover()


def designed(**changes: Any) -> tuple[Problem, list[Architecture]]:
    """Problem of a spec for the tiny model, and its initial design."""
    spec = parse_spec(yaml.safe_dump(SPEC | changes), HOST)
    problem = Problem.of(spec, HOST, TINY)
    return problem, propose(problem, spec.collect)


def test_one_in_ten_proposals_prunes_mlps_uniformly() -> None:
    problem, proposals = designed(collect={"pairs": 40, "band": 0.05})
    assert len(proposals) == len(set(proposals)) == 40
    even, shares = sizes_of(proposals)[:4], problem.shape.count(proposals) / problem.dense_count("parameters")
    assert (even[..., :2] == sizes_of([problem.shape.dense])[..., :2]).all()
    widths = even[..., 2]
    assert (np.ptp(widths, axis=1) <= 24 / 4).all()  # one step, where the budget lies between two
    assert (np.diff(shares[:4]) > 0).all()
    assert 0.73 <= shares.min() <= shares.max() <= 0.85


def test_a_larger_design_starts_with_the_same_random_architectures() -> None:
    fewer, more = (set(designed(collect={"pairs": count, "band": 0.05})[1]) for count in (8, 60))
    assert len(fewer - more) == 0


def test_a_few_proposals_lie_on_both_sides_of_the_target() -> None:
    problem, proposals = designed(collect={"pairs": 8, "band": 0.05})
    shares = problem.shape.count(proposals) / problem.dense_count("parameters")
    assert len(shares) == 8
    assert shares.min() < 0.77
    assert shares.max() > 0.83


def test_without_a_band_the_design_has_no_uniform_architectures() -> None:
    problem, proposals = designed(collect={"pairs": 40, "band": None})
    indices = problem.space.sample(40, problem.rng("collect", 0))
    assert len(proposals) <= 40 == len(indices)
    assert len({architecture.layers[0].mlp_width for architecture in proposals[:4]}) > 1


def test_proposals_are_assigned_to_the_nearest_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = {"attention": [1.0, 1.0], "mlp": [0.0, 1.0]}
    changes = {"space": SPACE | {"sampling": sampling}, "collect": {"pairs": 64, "band": 0.1}}

    def heads_kept() -> float:
        kept = sizes_of(designed(**changes)[1])
        return float((kept[..., 0] * kept[..., 1]).mean())

    drawn_whole = heads_kept()
    monkeypatch.setattr(
        initial_design, "nearest_to_each", lambda usage, count: np.arange(count * len(usage)).reshape(-1, count)
    )
    assert heads_kept() < drawn_whole


def test_each_budget_gets_the_nearest_remaining_proposals() -> None:
    usage = np.array([[0.2, 0.99, 1.02, 1.6, 3.0, 1.0], [0.1, 0.5, 0.51, 0.8, 1.5, 0.5]])
    first, second = initial_design.nearest_to_each(usage, 2)
    assert first.tolist() == [5, 1]
    assert second.tolist() == [3, 4]
