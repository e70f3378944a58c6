"""Acquisition: selection of the best predicted architectures, and diversity of batches."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.shape import ModelShape
from prunecast.plugins.interfaces import Metric, PluginOptions, Prediction, Predictor
from prunecast.predict.fitted import Fitted
from prunecast.problem.objective import Objective
from prunecast.search.acquisition import acquire
from prunecast.spec.model import ChooseSpec
from prunecast.testing.models import shape_of

DENSE = (4, 2, 24)
SIMILAR = [Architecture([DENSE, DENSE, (4, 2, width)]) for width in (1, 2, 3, 4, 5)]
OTHERS = [Architecture([(1, 1, 24), DENSE, DENSE]), Architecture([DENSE, (4, 2, 1), DENSE])]
POOL = [*SIMILAR, *OTHERS]
MEANS = dict(zip(POOL, (0.00, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06), strict=True))


class Table(Predictor[PluginOptions]):
    """Predictor of the means in a table, all with the same standard deviation."""

    options_model = PluginOptions

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Do nothing; the table is fixed."""

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Rows of the table."""
        mean = np.array([[MEANS[architecture]] for architecture in architectures])
        return Prediction(mean, np.full(mean.shape, 0.1))


@pytest.fixture
def shape(tiny_model: Callable[..., Any]) -> ModelShape:
    return shape_of(tiny_model("llama").config)


def chosen(shape: ModelShape, pending: Sequence[Architecture] = (), **options: Any) -> list[Architecture]:
    objective = Objective((Metric("loss", "minimize", "nats", "linear"),), (1.0,))
    fitted = Fitted(Table(PluginOptions(), shape, 0), objective)
    return acquire(POOL, fitted, shape, ChooseSpec(**options), 3, pending)


def test_greedy_takes_the_best_predicted(shape: ModelShape) -> None:
    assert chosen(shape, rule="greedy") == SIMILAR[:3]


@pytest.mark.parametrize("width", [1.0, -1.0])
def test_confidence_diversifies_batches_for_either_sign_of_kappa(shape: ModelShape, width: float) -> None:
    assert chosen(shape, width=width) == [SIMILAR[0], *OTHERS]


@pytest.mark.parametrize("width", [1.0, -1.0])
def test_what_is_like_something_pending_is_chosen_last(shape: ModelShape, width: float) -> None:
    assert set(chosen(shape, width=width)[:2]) & set(SIMILAR)
    assert chosen(shape, pending=[SIMILAR[2]], width=width)[:2] == OTHERS
