"""The trust region: scores outside it, its members, and its radius over the rounds of a run."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig
from workplace import Workplace

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.encodings import distances
from prunecast.architecture.shape import ModelShape
from prunecast.search.trust_region import members, penalised_outside
from prunecast.testing.models import shape_of

PPL = "validation.validation.ppl"
DENSE = (4, 2, 24)
HALF = Architecture([(2, 2, 24), DENSE, DENSE])
LESS = Architecture([(2, 2, 12), DENSE, DENSE])
OTHER = Architecture([DENSE, DENSE, (4, 2, 0)])


@pytest.fixture
def shape(tiny_model: Callable[..., Any]) -> ModelShape:
    return shape_of(tiny_model("llama").config)


def test_distance_is_the_root_mean_squared_difference_of_kept_shares(shape: ModelShape) -> None:
    found = distances([HALF, LESS], [HALF, LESS, OTHER], shape)
    # Six shares: heads and channels of three layers. Halves differ by 0.5, all channels by 1.
    expected = [[0, 0.25, 1.25], [0.25, 0, 1.5]]
    np.testing.assert_allclose(found, np.sqrt(np.array(expected) / 6), atol=1e-7)


def test_scores_outside_are_worse_than_all_inside_and_grow_with_distance(shape: ModelShape) -> None:
    tempting = {HALF: 0.0, LESS: -1.0, OTHER: -1000.0}

    def score(architectures: Sequence[Architecture]) -> Floats:
        return np.array([tempting[architecture] for architecture in architectures])

    restricted = penalised_outside(score, [HALF], shape, 0.21)([HALF, LESS, OTHER])
    assert restricted[:2].tolist() == [0.0, -1.0]  # sqrt(0.25 / 6) is 0.204
    assert restricted[2] > 1000
    tight = penalised_outside(score, [HALF], shape, 0.2)([LESS, OTHER])
    assert 1000 < tight[0] < tight[1]


def test_members_are_near_a_measured_architecture(shape: ModelShape) -> None:
    assert members([OTHER, LESS, HALF], [HALF], shape, 0.21) == [LESS, HALF]
    assert members([OTHER, LESS, HALF], [HALF, OTHER], shape, 0.2) == [OTHER, HALF]
    assert members([], [HALF], shape, 0.2) == []


Perplexities = dict[Architecture, float]
"""Perplexity of each architecture, the objective of the search."""


def rounds_of(workplace: Workplace, *arguments: str) -> tuple[Perplexities, list[Perplexities]]:
    """Initial pairs of a run, and the architectures measured in each of its rounds."""
    result = workplace.prunecast("run", "tiny.yaml", "--json", "--set", "export=null", *arguments).json
    of_stage = f"SELECT evaluation_id FROM run_evaluations WHERE run_id = {result['run']} AND stage = 'pairs'"
    pairs = f"SELECT architecture_id FROM evaluations WHERE id IN ({of_stage})"
    query = f'SELECT architecture, "{PPL}" FROM measurements WHERE architecture_id IN ({pairs})'
    rounds = [
        {Architecture.parse(each["architecture"]): each["measured"][PPL] for each in one["chosen"]}
        for one in result["rounds"]
    ]
    return {Architecture.parse(text): value for text, value in workplace.sql(query)}, rounds


def farthest(workplace: Workplace, chosen: Perplexities, measured: Perplexities) -> float:
    """Largest distance of a proposal from its nearest measured architecture."""
    shape = shape_of(AutoConfig.from_pretrained(workplace.folder / "model"))
    return float(distances(list(chosen), list(measured), shape).min(axis=1).max())


def test_proposals_of_a_run_stay_in_the_trust_region(workplace: Workplace) -> None:
    pairs, (anywhere,) = rounds_of(workplace, "--set", "rounds=1")
    assert (len(pairs), len(anywhere)) == (12, 3)
    reach = 0.8 * farthest(workplace, anywhere, pairs)
    _, (near,) = rounds_of(workplace, "--set", "rounds=1", "--set", f"choose.within={reach}")
    assert farthest(workplace, near, pairs) <= reach


def test_the_trust_region_shrinks_after_rounds_without_improvement(workplace: Workplace) -> None:
    measured, rounds = rounds_of(
        workplace, "--set", "rounds=5", "--set", "choose.within=0.3", "--set", "choose.shrink=0.6"
    )
    shape = shape_of(AutoConfig.from_pretrained(workplace.folder / "model"))
    limit = int(0.8 * shape.count([shape.dense])[0])
    reach, stalled = 0.3, 0
    for chosen in rounds:
        assert farthest(workplace, chosen, measured) <= reach
        best = min(value for each, value in measured.items() if shape.count([each])[0] <= limit)
        if min(chosen.values()) >= best:
            reach, stalled = reach * 0.6, stalled + 1
        measured |= chosen
    assert 0 < stalled < 5
