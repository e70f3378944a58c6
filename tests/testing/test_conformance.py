"""The examples and all bundled plugins keep the laws of their kind."""

from prunecast.examples.predictor import Ridge
from prunecast.examples.searcher import Climb
from prunecast.testing import PredictorConformance, SearcherConformance
from prunecast_plugins.predictors.gbdt import GBDT
from prunecast_plugins.predictors.xgboost import XGBoost
from prunecast_plugins.searchers.random import Random
from prunecast_plugins.searchers.tpe import TPE


class TestRidge(PredictorConformance):
    plugin = Ridge


class TestGBDT(PredictorConformance):
    plugin = GBDT
    options = {"trees": 8, "members": 2}


class TestXGBoost(PredictorConformance):
    plugin = XGBoost
    options = {"trees": 8, "members": 2}


class TestClimb(SearcherConformance):
    plugin = Climb


class TestRandom(SearcherConformance):
    plugin = Random
    options = {"samples": 300}


class TestTPE(SearcherConformance):
    plugin = TPE
    options = {"trials": 10, "startup": 80, "seeds": 10, "batch": 5}
