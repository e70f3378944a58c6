"""The conformance suite: checks that every plugin of a kind has to pass, third-party and bundled plugins equally.

Inherit from the class of your kind, and each check becomes a test::

    from prunecast.testing import PredictorConformance

    class TestRidge(PredictorConformance):
        plugin = Ridge
        options = {"penalty": 0.5}

or call ``check_predictor(Ridge, {"penalty": 0.5})``. Declare a check that a plugin cannot pass, with the reason:
``expected_failures = {"a_pickled_predictor_predicts_the_same": "holds a compiled function"}``. Fixtures for
your own tests come with the pytest plugin, see :mod:`prunecast.pytest_plugin`.
"""

from collections.abc import Mapping
from typing import Any

from prunecast.testing.checks import CheckFailed, Conformance, DoesNotApply, Suite, Verdict
from prunecast.testing.evaluators import EVALUATORS, EvaluatorConformance, check_evaluator
from prunecast.testing.executors import EXECUTORS, ExecutorConformance, check_executor
from prunecast.testing.exporters import EXPORTERS, ExporterConformance, check_exporter
from prunecast.testing.families import FAMILIES, FamilyConformance, check_family
from prunecast.testing.landscape import KnownOptimum
from prunecast.testing.models import byte_tokenizer, elastic_model, tiny_model
from prunecast.testing.predictors import PREDICTORS, PredictorConformance, check_predictor
from prunecast.testing.pruners import PRUNERS, PrunerConformance, check_pruner
from prunecast.testing.recorded import RecordedPairs, recorded_pairs
from prunecast.testing.searchers import SEARCHERS, SearcherConformance, check_searcher
from prunecast.testing.spaces import SPACES, SpaceConformance, check_space

SUITES: Mapping[str, Suite[Any]] = {
    "family": FAMILIES,
    "space": SPACES,
    "pruner": PRUNERS,
    "evaluator": EVALUATORS,
    "predictor": PREDICTORS,
    "searcher": SEARCHERS,
    "exporter": EXPORTERS,
    "executor": EXECUTORS,
}
"""Suite of checks by kind, under the names that specs use."""

__all__ = [
    "SUITES",
    "CheckFailed",
    "Conformance",
    "DoesNotApply",
    "EvaluatorConformance",
    "ExecutorConformance",
    "ExporterConformance",
    "FamilyConformance",
    "KnownOptimum",
    "PredictorConformance",
    "PrunerConformance",
    "RecordedPairs",
    "SearcherConformance",
    "SpaceConformance",
    "Suite",
    "Verdict",
    "byte_tokenizer",
    "check_evaluator",
    "check_executor",
    "check_exporter",
    "check_family",
    "check_predictor",
    "check_pruner",
    "check_searcher",
    "check_space",
    "elastic_model",
    "recorded_pairs",
    "tiny_model",
]
