"""Mutations of the evolution searcher, and results better than random search."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from search_problems import problem_of

from prunecast.architecture.architecture import Architecture, sizes_of
from prunecast.architecture.choices import Choice, shift_level, switch_levels
from prunecast.architecture.shape import ModelShape
from prunecast_plugins.searchers.evolution import Evolution, EvolutionOptions
from prunecast_plugins.searchers.random import Random, RandomOptions
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions, Sampling

CHOICES = (
    *(Choice("attention", (layer,), ((0, 0), (2, 2), (4, 4))) for layer in range(3)),
    *(Choice("mlp", (layer,), ((0,), (32,), (64,), (96,))) for layer in range(3)),
    Choice("mlp", (3, 4), ((0,), (32,), (64,), (96,))),
)


@given(st.tuples(*(st.integers(0, len(choice.values) - 1) for choice in CHOICES)), st.integers(0, 2**32))
def test_a_switch_moves_one_level_between_choices_of_equal_cost(levels: tuple[int, ...], seed: int) -> None:
    row = np.array(levels)
    switch_levels(row, CHOICES, np.random.default_rng(seed))
    moved = row - np.array(levels)
    assert sorted(moved[moved != 0].tolist()) in ([], [-1, 1])
    for same in (slice(0, 3), slice(3, 6), slice(6, 7)):
        assert moved[same].sum() == 0
    assert all(0 <= level < len(choice.values) for level, choice in zip(row, CHOICES, strict=True))


def test_every_possible_switch_occurs() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(500):
        row = np.array([1, 0, 2, 1, 3, 0, 2])
        switch_levels(row, CHOICES, rng)
        seen.add(tuple(row.tolist()))
    # attention: 2 to lower x 2 to raise, less one with itself; mlp: the same; the tied pair has no partner of its cost
    assert len(seen) == 1 + 3 + 3


@given(st.tuples(*(st.integers(0, len(choice.values) - 1) for choice in CHOICES)), st.integers(0, 2**32))
def test_a_shift_moves_one_choice_by_at_most_one_level(levels: tuple[int, ...], seed: int) -> None:
    row = np.array(levels)
    shift_level(row, CHOICES, np.random.default_rng(seed))
    moved = row - np.array(levels)
    assert np.abs(moved).sum() <= 1
    assert all(0 <= level < len(choice.values) for level, choice in zip(row, CHOICES, strict=True))


def test_attention_is_pruned_when_only_mlps_affect_the_target(shape: ModelShape) -> None:
    """The initial samples keep nearly all attention, and the objective depends on the MLPs alone."""
    options = LayerwiseOptions(attention=(0, 0.33, 0.67), mlp=(0, 0.25, 0.5, 0.75), sampling=Sampling(attention=(1, 1)))
    space = Layerwise(options, shape)

    def mlps_lost(architectures: Sequence[Architecture]) -> np.ndarray:
        return -sizes_of(architectures)[..., 2].sum(axis=1).astype(np.float64)

    evolution = Evolution(EvolutionOptions(startup=20, survivors=5, offspring=40, generations=60))
    (best,) = sizes_of(evolution.search(problem_of(shape, mlps_lost, space=space, share=0.6), 1))
    heads = best[..., 0] * best[..., 1]
    assert (heads == 3).sum() >= 10


def test_beats_random_search_with_as_many_evaluations(shape: ModelShape, truth: Callable[..., Any]) -> None:
    evolution = Evolution(EvolutionOptions(startup=200, survivors=5, offspring=40, generations=20))
    random = Random(RandomOptions(samples=evolution.evaluations))
    best = {
        searcher: truth(searcher.search(problem_of(shape, lambda a: truth(a)[:, 0]), 1))[0, 0]
        for searcher in (evolution, random)
    }
    assert best[evolution] < best[random] - 0.2
