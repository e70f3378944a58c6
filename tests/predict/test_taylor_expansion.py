"""Taylor expansions: single choices, several choices together, and the remainder."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import Choice
from prunecast.plugins.examples.predictor import Ridge
from prunecast.predict.taylor_expansion import ChoiceSensitivity, ExpandedPredictor, TaylorExpansion
from prunecast.testing.models import shape_of

WHOLE = (4, 2, 24)
ATTENTION = Choice("attention", (0,), ((1, 1), (1, 2), (2, 1), (4, 2)))
MLPS = Choice("mlp", (1, 2), ((0,), (8,), (12,), (24,)))


def parts(*by_metric: tuple[float, float]) -> Any:
    """Slope and curvature of each metric as an array (2, M)."""
    return np.array(by_metric, dtype=np.float64).T


POINT = Architecture([(2, 1, 24), (4, 2, 12), (4, 2, 12)])
EXPANSION = TaylorExpansion(
    POINT,
    np.array([1.0, 10.0]),
    (
        ChoiceSensitivity.of(
            ATTENTION, {2: np.zeros((2, 2)), 1: parts((0.25, 0.25), (0, 0)), 3: parts((-1.5, 0.5), (-2, 0))}
        ),
        ChoiceSensitivity.of(MLPS, {0: parts((1, 2), (0, 0)), 2: np.zeros((2, 2)), 3: parts((-0.6, 0), (4, 0))}),
    ),
)


def at(*layers: tuple[int, int, int]) -> list[float]:
    (found,) = EXPANSION.at([Architecture(layers)]).sum(axis=1).tolist()
    return list(found)


def test_expansion_is_exact_at_its_point_and_adds_changes() -> None:
    assert EXPANSION.at([POINT]).tolist() == [[[1.0, 10.0], [0.0, 0.0]]]
    assert EXPANSION.at([Architecture([WHOLE, WHOLE, WHOLE])])[0].tolist() == pytest.approx(
        np.array([[-1.1, 12.0], [0.5, 0.0]])
    )
    assert at(WHOLE, (4, 2, 12), (4, 2, 12)) == [0.0, 8.0]
    assert at(WHOLE, (4, 2, 24), (4, 2, 24)) == pytest.approx([-0.6, 12.0])


def test_values_of_one_size_are_distinct() -> None:
    assert at((1, 2, 24), (4, 2, 12), (4, 2, 12)) == [1.5, 10.0]


def test_a_layer_that_is_gone_changes_by_its_own_choice_alone_and_tied_layers_by_those_left() -> None:
    """The change of a whole layer has the effect of its components, whose choices say nothing then."""
    first = Choice("layer", (0,), ((0,), (1,)))
    second = Choice("layer", (1,), ((0,), (1,)))
    with_layers = TaylorExpansion(
        POINT,
        EXPANSION.value,
        (
            *EXPANSION.sensitivities,
            ChoiceSensitivity.of(first, {0: parts((5, 7), (1, 1)), 1: np.zeros((2, 2))}),
            ChoiceSensitivity.of(second, {0: parts((3, 0), (0, 0)), 1: np.zeros((2, 2))}),
        ),
    )

    def changed(*layers: tuple[int, int, int]) -> list[float]:
        (found,) = with_layers.at([Architecture(layers)]).sum(axis=1) - EXPANSION.value
        return list(found)

    nothing = (0, 0, 0)
    assert changed(*POINT.layers) == [0, 0]
    assert changed(nothing, *POINT.layers[1:]) == [5 + 7, 1 + 1]
    assert changed(POINT.layers[0], nothing, WHOLE) == pytest.approx([-0.6 + 3, 4])
    assert changed(POINT.layers[0], nothing, (4, 2, 12)) == [3, 0]


def test_values_between_known_ones_are_interpolated() -> None:
    assert at((2, 1, 24), (4, 2, 8), (4, 2, 8)) == pytest.approx([2.0, 10.0], abs=1e-3)
    assert at((2, 1, 24), (4, 2, 18), (4, 2, 18)) == pytest.approx([0.7, 12.0], abs=1e-3)  # in no value list


def test_the_remainder_excludes_single_choices_and_the_curvature_is_scaled(tiny_model: Callable[..., Any]) -> None:
    shape = shape_of(tiny_model("llama").config)
    rng = np.random.default_rng(0)
    drawn = [
        Architecture([(*ATTENTION.values[i], 24), (4, 2, width), (4, 2, width)])
        for i, width in zip(rng.integers(4, size=40), rng.integers(25, size=40).tolist(), strict=True)
    ]
    # Single choices that a regression on eight pairs cannot learn, and mixed terms that increase all of them.
    first, second = np.moveaxis(EXPANSION.at(drawn), 1, 0)
    truth = first + 1.5 * second
    predictor = ExpandedPredictor([EXPANSION], Ridge(Ridge.options_model(), shape, 0), shape)
    predictor.fit(drawn[:8], truth[:8])
    mean, std = predictor.predict(drawn[8:])
    np.testing.assert_allclose(mean, truth[8:], atol=1e-6)
    assert std.shape == mean.shape


def test_the_nearest_expansion_point_is_used(tiny_model: Callable[..., Any]) -> None:
    shape = shape_of(tiny_model("llama").config)
    far = Architecture([WHOLE, WHOLE, WHOLE])
    other = TaylorExpansion(far, np.array([-5.0, -5.0]), EXPANSION.sensitivities[:0])
    predictor = ExpandedPredictor([EXPANSION, other], Ridge(Ridge.options_model(), shape, 0), shape)
    predictor.fit([POINT, far], np.array([[1.0, 10.0], [-5.0, -5.0]]))
    near = Architecture([(2, 1, 24), (4, 2, 8), (4, 2, 8)])
    mean, _ = predictor.predict([POINT, far, near])
    np.testing.assert_allclose(mean, [[1.0, 10.0], [-5.0, -5.0], [2.0, 10.0]], atol=1e-2)


def test_the_remainder_is_learned(tiny_model: Callable[..., Any]) -> None:
    shape = shape_of(tiny_model("llama").config)
    straight = TaylorExpansion(POINT, EXPANSION.value, EXPANSION.sensitivities[:0])
    drawn = [Architecture([WHOLE, (4, 2, width), (4, 2, width)]) for width in range(25)]
    truth = np.array([[0.1 * width, -width] for width in range(25)])
    predictor = ExpandedPredictor([straight], Ridge(Ridge.options_model(), shape, 0), shape)
    predictor.fit(drawn[::2], truth[::2])
    assert np.corrcoef(predictor.predict(drawn[1::2]).mean[:, 0], truth[1::2, 0])[0, 1] > 0.99
