"""The checks of searchers, and tests of this plugin's own features."""

import pytest
from prunecast_nevergrad import Nevergrad, NevergradOptions

from prunecast.plugins import PluginError
from prunecast.testing import KnownOptimum, SearcherConformance

SMALL = {"trials": 40, "startup": 80, "seeds": 5, "batch": 10}


class TestConformance(SearcherConformance):
    plugin = Nevergrad
    options = SMALL


def test_an_unknown_optimiser_is_an_error_that_names_the_nearest() -> None:
    searcher = Nevergrad(NevergradOptions(optimizer="NGOp", **SMALL))
    with pytest.raises(PluginError, match=r"no optimiser 'NGOp' \(did you mean 'NGOpt"):
        searcher.search(KnownOptimum().problem(), 1)
