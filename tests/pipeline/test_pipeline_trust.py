"""The trust region: what a search sees of what is unlike everything measured."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig
from workplace import Workplace

from prunecast.architecture import Architecture
from prunecast.interfaces import Floats
from prunecast.models.families import shape_of
from prunecast.pipeline.trust import distances, inside, within
from prunecast.shape import ModelShape

DENSE = (4, 2, 24)
HALF = Architecture([(2, 2, 24), DENSE, DENSE])
LESS = Architecture([(2, 2, 12), DENSE, DENSE])
OTHER = Architecture([DENSE, DENSE, (4, 2, 0)])


@pytest.fixture
def shape(tiny_model: Callable[..., Any]) -> ModelShape:
    return shape_of(tiny_model("llama").config)


def test_distance_is_that_of_the_kept_shares_of_heads_and_channels(shape: ModelShape) -> None:
    found = distances([HALF, LESS], [HALF, LESS, OTHER], shape)
    # Six shares: heads and channels of three layers. Halves differ by 0.5, all channels by 1.
    expected = [[0, 0.25, 1.25], [0.25, 0, 1.5]]
    np.testing.assert_allclose(found, np.sqrt(np.array(expected) / 6), atol=1e-7)


def test_outside_is_worse_than_everything_inside_and_further_is_worse_still(shape: ModelShape) -> None:
    tempting = {HALF: 0.0, LESS: -1.0, OTHER: -1000.0}

    def score(architectures: Sequence[Architecture]) -> Floats:
        return np.array([tempting[architecture] for architecture in architectures])

    restricted = within(score, [HALF], shape, 0.21)([HALF, LESS, OTHER])
    assert restricted[:2].tolist() == [0.0, -1.0]  # sqrt(0.25 / 6) is 0.204
    assert restricted[2] > 1000
    tight = within(score, [HALF], shape, 0.2)([LESS, OTHER])
    assert 1000 < tight[0] < tight[1]


def test_only_what_is_near_something_measured_stays(shape: ModelShape) -> None:
    assert inside([OTHER, LESS, HALF], [HALF], shape, 0.21) == [LESS, HALF]
    assert inside([OTHER, LESS, HALF], [HALF, OTHER], shape, 0.2) == [OTHER, HALF]
    assert inside([], [HALF], shape, 0.2) == []


def farthest_chosen(workplace: Workplace, *arguments: str) -> float:
    """How far from all pairs the farthest architecture lies that the first round of a run chose."""
    done = workplace.prunecast("run", "tiny.yaml", "--json", "--set", "export=null", "--set", "rounds=1", *arguments)
    chosen = [Architecture.parse(each["architecture"]) for each in done.json["rounds"][0]["chosen"]]
    of_stage = f"SELECT evaluation_id FROM run_evaluations WHERE run_id = {done.json['run']} AND stage = 'pairs'"
    pairs = f"SELECT architecture_id FROM evaluations WHERE id IN ({of_stage})"
    query = f"SELECT DISTINCT architecture FROM measurements WHERE architecture_id IN ({pairs})"
    rows = workplace.prunecast("registry", "sql", query, "--json").json
    measured = [Architecture.parse(row["architecture"]) for row in rows]
    shape = shape_of(AutoConfig.from_pretrained(workplace.folder / "model"))
    assert (len(chosen), len(measured)) == (3, 12)
    return float(distances(chosen, measured, shape).min(axis=1).max())


def test_a_run_goes_no_further_from_what_it_measured_than_the_spec_allows(workplace: Workplace) -> None:
    anywhere = farthest_chosen(workplace)
    assert farthest_chosen(workplace, "--set", f"choose.within={anywhere * 0.8}") <= anywhere * 0.8
