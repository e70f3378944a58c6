"""Measured architectures: targets, ranking within a budget, and subsets, compared with plain Python."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workplace import TINY

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.plugins import Metric
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Objective

OBJECTIVE = Objective(
    (Metric("ppl", "minimize", "perplexity", "log"), Metric("accuracy", "maximize", "fraction")), (1.0, 0.5)
)


def cut(width: int) -> Architecture:
    return Architecture([(4, 2, width)] * 4)


def measured(*rows: tuple[int, float, float]) -> Measured:
    return Measured(OBJECTIVE, {cut(width): {"ppl": ppl, "accuracy": accuracy} for width, ppl, accuracy in rows})


@given(
    st.lists(
        st.tuples(st.integers(0, 24), st.floats(1, 1e4), st.floats(0, 1)), unique_by=lambda row: row[0], max_size=12
    ),
    st.integers(0, 24),
)
def test_ranking_is_that_of_single_architectures(rows: list[tuple[int, float, float]], widest: int) -> None:
    limit = int(TINY.count([cut(widest)])[0])
    budget = Budget(TINY, {"parameters": limit})
    scores = {cut(width): math.log(ppl) - 0.5 * accuracy for width, ppl, accuracy in rows if width <= widest}
    found = measured(*rows).ranked(budget)
    assert set(found) == set(scores)
    assert all(scores[a] <= scores[b] + 1e-12 for a, b in pairwise(found))
    assert measured(*rows).best(budget) == (found[0] if found else None)


def test_equal_scores_are_ranked_by_content_key() -> None:
    found = measured(*((width, 2.0, 0.5) for width in range(10))).ranked(Budget(TINY, {}))
    assert [each.key for each in found] == sorted(each.key for each in found)


def test_targets_are_logarithms_where_the_scale_is_logarithmic() -> None:
    both = measured((24, 10.0, 0.5), (12, 20.0, 0.25))
    np.testing.assert_allclose(both.targets, [[math.log(10), 0.5], [math.log(20), 0.25]])
    np.testing.assert_allclose(both.scores, [math.log(10) - 0.25, math.log(20) - 0.125])
    lost = both.relative_to(cut(24))
    assert lost is not None
    np.testing.assert_allclose(lost, [[0, 0], [math.log(2), -0.25]])
    assert both.relative_to(cut(3)) is None


def test_added_measurements_come_last_and_keep_earlier_ones() -> None:
    first = measured((24, 10.0, 0.5))
    more = first.and_also({cut(12): {"ppl": 20.0, "accuracy": 0.25}})
    assert (len(first), len(more)) == (1, 2)
    assert more.architectures == [cut(24), cut(12)]
    assert more.without([cut(24)]).architectures == [cut(12)]
    with pytest.raises(KeyError):
        first.only([cut(12)])
