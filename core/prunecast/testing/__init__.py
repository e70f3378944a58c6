"""The conformance suite: what every plugin of a kind has to keep, for third parties and for the bundled ones alike.

Inherit from the class of your kind, and every law is a test::

    from prunecast.testing import PredictorConformance

    class TestRidge(PredictorConformance):
        plugin = Ridge
        options = {"penalty": 0.5}

or call ``check_predictor(Ridge, {"penalty": 0.5})``. A law that a plugin cannot keep is declared, with the reason:
``expected_failures = {"a_pickled_predictor_predicts_the_same": "holds a compiled function"}``.
"""

from prunecast.testing.landscape import KnownOptimum
from prunecast.testing.laws import Conformance, DoesNotApply, LawBroken, Verdict
from prunecast.testing.predictors import PredictorConformance, check_predictor
from prunecast.testing.recorded import RecordedPairs, recorded_pairs
from prunecast.testing.searchers import SearcherConformance, check_searcher

__all__ = [
    "Conformance",
    "DoesNotApply",
    "KnownOptimum",
    "LawBroken",
    "PredictorConformance",
    "RecordedPairs",
    "SearcherConformance",
    "Verdict",
    "check_predictor",
    "check_searcher",
    "recorded_pairs",
]
