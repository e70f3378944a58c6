"""The fitted line and its confidence band, compared with scipy and checked for coverage."""

import numpy as np
import pytest
from scipy.stats import linregress, t

from prunecast.report.prediction import Line


def test_line_and_band_equal_ordinary_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, 30)
    y = 0.5 + 0.9 * x + rng.normal(0, 0.3, 30)
    line, expected = Line.through(x, y), linregress(x, y)
    assert line is not None
    assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept))
    # At zero the band is the confidence interval of the intercept.
    half = t.ppf(0.975, 28) * expected.intercept_stderr
    assert line.half_width(np.zeros(1))[0] == pytest.approx(half)
    assert line.half_width(np.array([x.mean()]))[0] < line.half_width(np.array([x.mean() + 3]))[0]


def test_band_covers_the_true_line_in_95_of_100_samples() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        x = rng.normal(0, 1, 12)
        line = Line.through(x, 1 + 2 * x + rng.normal(0, 1, 12))
        assert line is not None
        at = np.array([0.7])
        inside += abs(float(line.at(at)[0]) - 2.4) <= float(line.half_width(at)[0])
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("predicted", [np.arange(4.0), np.ones(9)])
def test_too_few_or_equal_predictions_give_no_line(
    predicted: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> None:
    assert Line.through(predicted, np.arange(float(len(predicted)))) is None
