"""Expansions: what is known of each step, steps together, and what is left to learn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import Choice
from prunecast.models.families import shape_of
from prunecast.plugins.examples.predictor import Ridge
from prunecast.predict.taylor_expansion import Expanded, Expansion, Steps

WHOLE = (4, 2, 24)
ATTENTION = Choice("attention", (0,), ((1, 1), (1, 2), (2, 1), (4, 2)))
MLPS = Choice("mlp", (1, 2), ((0,), (8,), (12,), (24,)))


def parts(*by_metric: tuple[float, float]) -> Any:
    """Slope and curvature of each metric as an array (2, M)."""
    return np.array(by_metric, dtype=np.float64).T


CENTRE = Architecture([(2, 1, 24), (4, 2, 12), (4, 2, 12)])
EXPANSION = Expansion(
    CENTRE,
    np.array([1.0, 10.0]),
    (
        Steps.of(ATTENTION, {2: np.zeros((2, 2)), 1: parts((0.25, 0.25), (0, 0)), 3: parts((-1.5, 0.5), (-2, 0))}),
        Steps.of(MLPS, {0: parts((1, 2), (0, 0)), 2: np.zeros((2, 2)), 3: parts((-0.6, 0), (4, 0))}),
    ),
)


def at(*layers: tuple[int, int, int]) -> list[float]:
    (found,) = EXPANSION.at([Architecture(layers)]).sum(axis=1).tolist()
    return list(found)


def test_the_centre_has_its_value_and_steps_add_up() -> None:
    assert EXPANSION.at([CENTRE]).tolist() == [[[1.0, 10.0], [0.0, 0.0]]]
    assert EXPANSION.at([Architecture([WHOLE, WHOLE, WHOLE])])[0].tolist() == pytest.approx(
        np.array([[-1.1, 12.0], [0.5, 0.0]])
    )
    assert at(WHOLE, (4, 2, 12), (4, 2, 12)) == [0.0, 8.0]
    assert at(WHOLE, (4, 2, 24), (4, 2, 24)) == pytest.approx([-0.6, 12.0])


def test_values_of_one_size_are_told_apart() -> None:
    assert at((1, 2, 24), (4, 2, 12), (4, 2, 12)) == [1.5, 10.0]


def test_what_is_between_known_values_is_taken_in_proportion() -> None:
    assert at((2, 1, 24), (4, 2, 8), (4, 2, 8)) == pytest.approx([2.0, 10.0], abs=1e-3)
    assert at((2, 1, 24), (4, 2, 18), (4, 2, 18)) == pytest.approx([0.7, 12.0], abs=1e-3)  # in no value list


def test_steps_are_not_learnt_again_and_their_curvature_is_scaled(tiny_model: Callable[..., Any]) -> None:
    shape = shape_of(tiny_model("llama").config)
    rng = np.random.default_rng(0)
    drawn = [
        Architecture([(*ATTENTION.values[i], 24), (4, 2, width), (4, 2, width)])
        for i, width in zip(rng.integers(4, size=40), rng.integers(25, size=40).tolist(), strict=True)
    ]
    # Steps that no regression on eight pairs would find, and mixed terms that make all of them worse.
    first, second = np.moveaxis(EXPANSION.at(drawn), 1, 0)
    truth = first + 1.5 * second
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


def test_what_no_step_explains_is_learnt(tiny_model: Callable[..., Any]) -> None:
    shape = shape_of(tiny_model("llama").config)
    straight = Expansion(CENTRE, EXPANSION.value, EXPANSION.steps[:0])
    drawn = [Architecture([WHOLE, (4, 2, width), (4, 2, width)]) for width in range(25)]
    truth = np.array([[0.1 * width, -width] for width in range(25)])
    predictor = Expanded([straight], Ridge(Ridge.options_model(), shape, 0), shape)
    predictor.fit(drawn[::2], truth[::2])
    assert np.corrcoef(predictor.predict(drawn[1::2]).mean[:, 0], truth[1::2, 0])[0, 1] > 0.99
