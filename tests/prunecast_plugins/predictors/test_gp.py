"""The Gaussian process, its blend with trees, and their features."""

from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.encodings import smoothed, smoothed_directions, structured
from prunecast.architecture.shape import ModelShape
from prunecast.testing import PredictorConformance
from prunecast.testing.recorded import recorded_pairs
from prunecast_plugins.predictors.blend import Blend, BlendOptions, Mixture
from prunecast_plugins.predictors.excess import MARGIN, ExcessRegression
from prunecast_plugins.predictors.gp import GP, MOST_PAIRS_OF_KERNEL, GaussianProcess, GPOptions


class TestGP(PredictorConformance):
    plugin = GP


class TestBlend(PredictorConformance):
    plugin = Blend
    options = {"trees": 10, "members": 2}


class Known:
    """Predicts what it was fitted on, with a given deviation."""

    def __init__(self, std: float) -> None:
        self._std = std

    def fit(self, features: Any, targets: Any) -> None:
        self.seen = targets

    def predict(self, features: Any) -> Any:
        return self.seen, np.full_like(self.seen, self._std)


def test_excess_regression_inverts_its_transform_and_propagates_the_deviation() -> None:
    targets = np.random.default_rng(0).normal(size=(50, 2))
    known = Known(0.2)
    excess = ExcessRegression(known)
    excess.fit(np.zeros((50, 1)), targets)
    np.testing.assert_allclose(known.seen.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(known.seen.std(axis=0), 1)
    mean, std = excess.predict(np.zeros((50, 1)))
    np.testing.assert_allclose(mean, targets)
    logarithms = -np.log(targets.max(axis=0) + MARGIN - targets)
    step = 0.2 * logarithms.std(axis=0)
    low, high = (targets.max(axis=0) + MARGIN - np.exp(-(logarithms + sign * step)) for sign in (-1, 1))
    np.testing.assert_allclose(std, (high - low) / 2)


def test_gaussian_process_equals_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.random((40, 6)), rng.normal(size=(40, 1))
    features[:, 2] = 0.5  # constant: must have no effect
    ours = GaussianProcess(steps=1000)
    ours.fit(features, targets)
    varying = np.delete(features, 2, axis=1)
    standard = (varying - varying.mean(axis=0)) / varying.std(axis=0)
    kernel = (
        ConstantKernel(0.2) * DotProduct(1.0, "fixed") + ConstantKernel(0.5) * RBF(2 * np.sqrt(5)) + WhiteKernel(0.1)
    )
    theirs = GaussianProcessRegressor(kernel).fit(standard, targets[:, 0])
    np.testing.assert_allclose(ours.predict(features)[0][:, 0], theirs.predict(standard), atol=1e-3)


def test_mixture_std_grows_where_its_parts_disagree() -> None:
    first, second = Known(0.3), Known(0.3)
    first.seen, second.seen = np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]])
    mean, std = Mixture([first, second]).predict(np.zeros((2, 1)))
    np.testing.assert_allclose(mean, [[1], [3]])
    np.testing.assert_allclose(std, [[0.3], [np.sqrt(0.09 + 1)]])


@pytest.mark.parametrize(("plugin", "options"), [(GP, GPOptions()), (Blend, BlendOptions(trees=50, members=2))])
def test_explains_unseen_recorded_pairs(plugin: Any, options: Any) -> None:
    recorded = recorded_pairs()
    order = np.random.default_rng(0).permutation(len(recorded.architectures))
    seen, unseen = order[len(order) // 4 :], order[: len(order) // 4]
    predictor = plugin(options, recorded.shape, 0)
    predictor.fit([recorded.architectures[i] for i in seen], recorded.targets[seen])
    mean, _ = predictor.predict([recorded.architectures[i] for i in unseen])
    left = ((mean - recorded.targets[unseen]) ** 2).mean(axis=0) / recorded.targets[unseen].var(axis=0)
    assert (left < 0.5).all()


def test_smoothed_encoding_adds_weighted_means_over_depth(shape: ModelShape) -> None:
    widths = np.random.default_rng(0).integers(1, shape.dense.layers[0].mlp_width, len(shape.dense.layers))
    architecture = Architecture([(*layer[:2], int(w)) for layer, w in zip(shape.dense.layers, widths, strict=True)])
    plain, columns = structured([architecture], shape)[0], smoothed([architecture], shape)[0]
    depth = len(widths)
    np.testing.assert_array_equal(columns[: len(plain)], plain)
    assert len(columns) == len(smoothed_directions(depth)) == 14 * depth + 6
    weights = np.exp(-np.abs(np.arange(depth) - 2) / 3)
    wanted = (weights @ (widths / shape.dense.layers[0].mlp_width)) / weights.sum()
    assert columns[len(plain) + 2 * 7 + 3] == pytest.approx(wanted)


def test_all_pairs_are_used_though_the_kernel_is_fitted_to_a_subset() -> None:
    rng = np.random.default_rng(0)
    features = rng.random((MOST_PAIRS_OF_KERNEL + 150, 3))
    with_kernel = np.linspace(0, len(features) - 1, MOST_PAIRS_OF_KERNEL).astype(int)
    others = np.setdiff1d(np.arange(len(features)), with_kernel)
    features[others, 0] += 2  # a region that only pairs outside the kernel's subset cover
    targets = np.sin(3 * features[:, :1])
    process = GaussianProcess(steps=40)
    process.fit(features, targets)
    mean, std = process.predict(features[others])
    assert np.abs(mean - targets[others]).max() < 0.2
    assert std.max() < 0.2
