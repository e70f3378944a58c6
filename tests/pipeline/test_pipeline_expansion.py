"""Expansions: what is known of each step, steps together, and what is left to learn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prunecast.architecture import Architecture
from prunecast.choices import Choice
from prunecast.examples.predictor import Ridge
from prunecast.models.families import shape_of
from prunecast.pipeline.expansion import Expanded, Expansion, Steps

WHOLE = (4, 2, 24)
ATTENTION = Choice("attention", (0,), ((1, 1), (1, 2), (2, 1), (4, 2)))
MLPS = Choice("mlp", (1, 2), ((0,), (8,), (12,), (24,)))
CENTRE = Architecture([(2, 1, 24), (4, 2, 12), (4, 2, 12)])
EXPANSION = Expansion(
    CENTRE,
    np.array([1.0, 10.0]),
    (
        Steps.of(ATTENTION, {2: np.zeros(2), 1: np.array([0.5, 0.0]), 3: np.array([-1.0, -2.0])}),
        Steps.of(MLPS, {0: np.array([3.0, 0.0]), 2: np.zeros(2), 3: np.array([-0.6, 4.0])}),
    ),
)


def at(*layers: tuple[int, int, int]) -> list[float]:
    (found,) = EXPANSION.at([Architecture(layers)]).tolist()
    return list(found)


def test_the_centre_has_its_value_and_steps_add_up() -> None:
    assert EXPANSION.at([CENTRE]).tolist() == [[1.0, 10.0]]
    assert at(WHOLE, (4, 2, 12), (4, 2, 12)) == [0.0, 8.0]
    assert at(WHOLE, (4, 2, 24), (4, 2, 24)) == pytest.approx([-0.6, 12.0])


def test_values_of_one_size_are_told_apart() -> None:
    assert at((1, 2, 24), (4, 2, 12), (4, 2, 12)) == [1.5, 10.0]


def test_what_is_between_known_values_is_taken_in_proportion() -> None:
    assert at((2, 1, 24), (4, 2, 8), (4, 2, 8)) == pytest.approx([2.0, 10.0], abs=1e-3)
    assert at((2, 1, 24), (4, 2, 18), (4, 2, 18)) == pytest.approx([0.7, 12.0], abs=1e-3)  # in no value list


def test_only_the_remainder_is_learnt(tiny_model: Callable[..., Any]) -> None:
    shape = shape_of(tiny_model("llama").config)
    rng = np.random.default_rng(0)
    drawn = [
        Architecture([(*ATTENTION.values[i], 24), (4, 2, width), (4, 2, width)])
        for i, width in zip(rng.integers(4, size=40), rng.integers(25, size=40).tolist(), strict=True)
    ]
    # A jump that no regression on eight pairs would find, and a remainder that one does find.
    truth = EXPANSION.at(drawn) + 0.25
    predictor = Expanded([EXPANSION], Ridge(Ridge.options_model(), shape, 0), shape)
    predictor.fit(drawn[:8], truth[:8])
    mean, std = predictor.predict(drawn[8:])
    np.testing.assert_allclose(mean, truth[8:], atol=1e-6)
    assert std.shape == mean.shape


def test_the_nearest_centre_counts(tiny_model: Callable[..., Any]) -> None:
    shape = shape_of(tiny_model("llama").config)
    far = Architecture([WHOLE, WHOLE, WHOLE])
    other = Expansion(far, np.array([-5.0, -5.0]), EXPANSION.steps[:0])
    predictor = Expanded([EXPANSION, other], Ridge(Ridge.options_model(), shape, 0), shape)
    predictor.fit([CENTRE, far], np.array([[1.0, 10.0], [-5.0, -5.0]]))
    near = Architecture([(2, 1, 24), (4, 2, 8), (4, 2, 8)])
    mean, _ = predictor.predict([CENTRE, far, near])
    np.testing.assert_allclose(mean, [[1.0, 10.0], [-5.0, -5.0], [2.0, 10.0]], atol=1e-2)
