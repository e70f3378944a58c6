"""The examples and all bundled plugins keep the laws of their kind."""

from prunecast.examples.predictor import Ridge
from prunecast.examples.searcher import Climb
from prunecast.testing import PredictorConformance, SearcherConformance
from prunecast_plugins.predictors.gbdt import GBDT
from prunecast_plugins.predictors.sklearn import Sklearn
from prunecast_plugins.predictors.xgboost import XGBoost
from prunecast_plugins.searchers.evolution import Evolution
from prunecast_plugins.searchers.optuna import Optuna
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


class TestSklearnWithABag(PredictorConformance):
    plugin = Sklearn
    options = {"estimator": "sklearn.svm.SVR", "members": 2}


class TestSklearnWithAForest(PredictorConformance):
    plugin = Sklearn
    options = {"estimator": "sklearn.ensemble.ExtraTreesRegressor", "n_estimators": 8}


class TestSklearnWithItsOwnDeviation(PredictorConformance):
    plugin = Sklearn
    options = {"estimator": "sklearn.linear_model.BayesianRidge"}


class TestClimb(SearcherConformance):
    plugin = Climb


class TestRandom(SearcherConformance):
    plugin = Random
    options = {"samples": 300}


class TestTPE(SearcherConformance):
    plugin = TPE
    options = {"trials": 10, "startup": 80, "seeds": 10, "batch": 5}


class TestEvolution(SearcherConformance):
    plugin = Evolution
    options = {"startup": 80, "survivors": 5, "offspring": 20, "generations": 3}


class TestOptuna(SearcherConformance):
    plugin = Optuna
    options = {"sampler": "NSGAIISampler", "population_size": 5, "trials": 20, "startup": 80, "seeds": 5, "batch": 5}
