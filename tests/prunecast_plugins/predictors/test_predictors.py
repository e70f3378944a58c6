"""The bundled predictors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from random_architectures import random_architectures

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.encodings import kept_fractions, structured
from prunecast.architecture.shape import ModelShape
from prunecast.errors import PluginError
from prunecast_plugins.predictors.gbdt import GBDT, GBDTOptions
from prunecast_plugins.predictors.xgboost import XGBoost, XGBoostOptions

PREDICTORS = [(GBDT, GBDTOptions), (XGBoost, XGBoostOptions)]
each_predictor = pytest.mark.parametrize(("predictor", "options"), PREDICTORS)


@each_predictor
def test_explains_most_of_unseen_pairs(
    predictor: Any, options: Any, shape: ModelShape, truth: Callable[..., Any]
) -> None:
    seen, unseen = random_architectures(shape, 300, 0), random_architectures(shape, 100, 1)
    fitted = predictor(options(), shape, 0)
    fitted.fit(seen, truth(seen))
    mean, std = fitted.predict(unseen)
    wanted = truth(unseen)
    r2 = 1 - ((mean - wanted) ** 2).mean(axis=0) / wanted.var(axis=0)
    assert (r2 > 0.75).all()
    standardised = np.sqrt((((mean - wanted) / std) ** 2).mean(axis=0))
    assert ((standardised > 0.6) & (standardised < 1.6)).all()


@each_predictor
def test_predictions_repeat_with_the_seed_and_differ_between_seeds(
    predictor: Any, options: Any, shape: ModelShape, truth: Callable[..., Any]
) -> None:
    seen, unseen = random_architectures(shape, 20, 0), random_architectures(shape, 10, 1)
    predictions = []
    for seed in (0, 0, 1):
        fitted = predictor(options(trees=40), shape, seed)
        fitted.fit(seen, truth(seen))
        fitted.fit(seen, truth(seen))
        predictions.append(fitted.predict(unseen))
    assert (predictions[0].mean == predictions[1].mean).all()
    assert (predictions[0].std == predictions[1].std).all()
    assert (predictions[0].mean != predictions[2].mean).any()


@each_predictor
def test_batch_equals_one_by_one(predictor: Any, options: Any, shape: ModelShape, truth: Callable[..., Any]) -> None:
    seen = random_architectures(shape, 40, 0)
    fitted = predictor(options(), shape, 0)
    fitted.fit(seen, truth(seen))
    batch = fitted.predict(seen)
    assert batch.mean.shape == batch.std.shape == (40, 2)
    singles = np.concatenate([fitted.predict([architecture]).mean for architecture in seen])
    np.testing.assert_allclose(batch.mean, singles, rtol=1e-6)


@each_predictor
@pytest.mark.parametrize("count", [1, 2, 10])
def test_constant_targets_and_few_pairs_give_that_constant(
    predictor: Any, options: Any, count: int, shape: ModelShape
) -> None:
    seen = random_architectures(shape, count, 0)
    fitted = predictor(options(), shape, 0)
    fitted.fit(seen, np.full((count, 1), 5.0))
    mean, std = fitted.predict(random_architectures(shape, 5, 1))
    np.testing.assert_allclose(mean, 5.0, rtol=1e-6)
    assert (std >= 0).all()


@each_predictor
def test_targets_that_are_not_finite_are_refused(predictor: Any, options: Any, shape: ModelShape) -> None:
    seen = random_architectures(shape, 3, 0)
    for targets in (np.array([[1.0], [np.nan], [2.0]]), np.ones((2, 1)), np.ones(3)):
        with pytest.raises(PluginError, match="finite targets"):
            predictor(options(), shape, 0).fit(seen, targets)


def test_encodings_are_the_documented_numbers(shape: ModelShape) -> None:
    architecture = Architecture([(1, 3, 24), (0, 0, 0), *[(3, 3, 96)] * 10])
    rates = kept_fractions([architecture], shape)[0]
    assert rates[:4].tolist() == [1 / 3, 0.25, 0, 0]
    assert rates[4:].tolist() == [1.0] * 20
    features = structured([architecture], shape)
    assert features.shape == (1, 7 * 12 + 6)
    assert features[0, :7].tolist() == [1 / 3, 1, 1 / 3, 0.25, 1, 1, 0.75**2]
    assert features[0, 7:14].tolist() == [0, 0, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(features[0, -6:-4], [(1 / 3 + 10) / 12, ((2 / 3) ** 2 + 1) / 12])


def test_encodings_differ_between_all_architectures_of_a_layer(shape: ModelShape) -> None:
    every = [
        Architecture([(groups, heads, width), *shape.dense.layers[1:]])
        for groups in range(4)
        for heads in range(4)
        for width in (0, 48, 96)
    ]
    different = list(dict.fromkeys(every))
    assert len({tuple(row) for row in structured(different, shape).tolist()}) == len(different) == 30
