"""The checks of predictors, and tests of this plugin's own features."""

import numpy as np
from prunecast_lightgbm import LightGBM, LightGBMOptions

from prunecast.testing import PredictorConformance, recorded_pairs


class TestConformance(PredictorConformance):
    plugin = LightGBM
    options = {"trees": 10}


def test_about_two_thirds_of_unseen_pairs_are_within_one_standard_deviation() -> None:
    recorded = recorded_pairs()
    order = np.random.default_rng(0).permutation(len(recorded.architectures))
    seen, unseen = np.split(order, [len(order) * 7 // 10])
    predictor = LightGBM(LightGBMOptions(), recorded.shape, 0)
    predictor.fit([recorded.architectures[i] for i in seen], recorded.targets[seen])
    mean, std = predictor.predict([recorded.architectures[i] for i in unseen])
    within = (abs(mean - recorded.targets[unseen]) <= std).mean()
    assert 0.3 <= within <= 0.95
