"""Regressors by import path: every source of a standard deviation, seeds, and estimators that cannot be fitted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from random_architectures import random_architectures

from prunecast.architecture.encodings import structured
from prunecast.architecture.shape import ModelShape
from prunecast.errors import PluginError
from prunecast.testing import recorded_pairs
from prunecast_plugins.predictors.sklearn import Sklearn, SklearnOptions

KERNELS = "sklearn.gaussian_process.kernels"
MATERN = {
    "class": f"{KERNELS}.Sum",
    "k1": {"class": f"{KERNELS}.Matern", "length_scale": 3.0, "nu": 2.5},
    "k2": {"class": f"{KERNELS}.WhiteKernel"},
}
REGRESSORS: dict[str, dict[str, Any]] = {
    "forest": {"estimator": "sklearn.ensemble.ExtraTreesRegressor"},
    "gaussian process": {"estimator": "sklearn.gaussian_process.GaussianProcessRegressor", "kernel": MATERN},
    "one target only, own deviation": {"estimator": "sklearn.linear_model.BayesianRidge"},
    "one target only, bag": {"estimator": "sklearn.svm.SVR"},
    "several targets, bag": {"estimator": "sklearn.linear_model.Ridge", "alpha": 0.1},
    "several targets only, bag": {"estimator": "sklearn.linear_model.MultiTaskLasso", "alpha": 0.01},
    "another library": {"estimator": "xgboost.XGBRegressor", "n_estimators": 50},
}
each_regressor = pytest.mark.parametrize("options", REGRESSORS.values(), ids=REGRESSORS)


def predictor(shape: ModelShape, seed: int = 0, **options: Any) -> Sklearn:
    return Sklearn(SklearnOptions(**options), shape, seed)


@each_regressor
def test_explains_unseen_pairs_and_its_std_is_calibrated(
    options: dict[str, Any], shape: ModelShape, truth: Callable[..., Any]
) -> None:
    seen, unseen = random_architectures(shape, 200, 0), random_architectures(shape, 100, 1)
    fitted = predictor(shape, **options)
    fitted.fit(seen, truth(seen))
    mean, std = fitted.predict(unseen)
    wanted = truth(unseen)
    assert mean.shape == std.shape == wanted.shape
    r2 = 1 - ((mean - wanted) ** 2).mean(axis=0) / wanted.var(axis=0)
    assert (r2 > 0.9).all()
    standardised = np.sqrt((((mean - wanted) / std) ** 2).mean(axis=0))
    assert ((standardised > 0.4) & (standardised < 2)).all()


def test_predictions_equal_those_of_scikit_learn(shape: ModelShape, truth: Callable[..., Any]) -> None:
    from sklearn.linear_model import BayesianRidge

    seen, unseen = random_architectures(shape, 60, 0), random_architectures(shape, 20, 1)
    fitted = predictor(shape, estimator="sklearn.linear_model.BayesianRidge", tol=1e-6, max_iter=1000)
    fitted.fit(seen, truth(seen))
    mean, std = fitted.predict(unseen)
    for column, target in enumerate(truth(seen).T):
        direct = BayesianRidge(tol=1e-6, max_iter=1000)
        direct.fit(structured(seen, shape), (target - target.mean()) / target.std())
        wanted_mean, wanted_std = direct.predict(structured(unseen, shape), return_std=True)
        np.testing.assert_allclose(mean[:, column], wanted_mean * target.std() + target.mean(), rtol=1e-6)
        np.testing.assert_allclose(std[:, column], wanted_std * target.std(), rtol=1e-6)


@pytest.mark.parametrize("name", ["forest", "one target only, bag", "another library"])
def test_predictions_depend_on_the_seed(name: str, shape: ModelShape, truth: Callable[..., Any]) -> None:
    seen, unseen = random_architectures(shape, 30, 0), random_architectures(shape, 10, 1)

    def numbers(seed: int) -> np.ndarray:
        fitted = predictor(shape, seed, **REGRESSORS[name])
        fitted.fit(seen, truth(seen))
        return np.concatenate(fitted.predict(unseen))

    np.testing.assert_array_equal(numbers(1), numbers(1))
    assert (numbers(1) != numbers(2)).any()


def test_options_reach_the_estimator(shape: ModelShape, truth: Callable[..., Any]) -> None:
    seen = random_architectures(shape, 30, 0)
    stump = predictor(shape, estimator="sklearn.ensemble.ExtraTreesRegressor", n_estimators=1, max_depth=1)
    stump.fit(seen, truth(seen))
    mean, std = stump.predict(seen)
    assert len(np.unique(mean[:, 0])) == 2
    assert (std == 0).all()


@pytest.mark.parametrize(
    "estimator", ["sklearn.ensemble.ExtraTreesRegressor", "sklearn.linear_model.BayesianRidge", "sklearn.svm.SVR"]
)
def test_fits_a_single_pair(estimator: str, shape: ModelShape, truth: Callable[..., Any]) -> None:
    seen, unseen = random_architectures(shape, 1, 0), random_architectures(shape, 5, 1)
    fitted = predictor(shape, estimator=estimator)
    fitted.fit(seen, truth(seen))
    mean, std = fitted.predict(unseen)
    np.testing.assert_allclose(mean, np.tile(truth(seen), (5, 1)), rtol=1e-6)
    assert (std >= 0).all()


def test_an_estimator_that_cannot_be_fitted_is_a_one_line_error(shape: ModelShape, truth: Callable[..., Any]) -> None:
    seen = random_architectures(shape, 3, 0)
    neighbours = predictor(shape, estimator="sklearn.neighbors.KNeighborsRegressor", n_neighbors=50)
    with pytest.raises(PluginError, match=r"^sklearn\.neighbors\.KNeighborsRegressor: Expected n_neighbors") as error:
        neighbours.fit(seen, truth(seen))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gaussian process", "one target only, own deviation"])
def test_explains_unseen_recorded_pairs_and_its_std_is_calibrated(name: str) -> None:
    recorded, r2, standardised = recorded_pairs(), [], []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(recorded.architectures))
        unseen, seen = np.split(order, [round(0.3 * len(order))])
        fitted = predictor(recorded.shape, seed, **REGRESSORS[name])
        fitted.fit([recorded.architectures[i] for i in seen], recorded.targets[seen])
        mean, std = fitted.predict([recorded.architectures[i] for i in unseen])
        wanted = recorded.targets[unseen]
        r2.append(1 - ((mean - wanted) ** 2).mean(axis=0) / wanted.var(axis=0))
        standardised.append((((mean - wanted) / std) ** 2).mean())
    assert np.mean(r2) > 0.75
    assert 0.5 < np.sqrt(np.mean(standardised)) < 2
