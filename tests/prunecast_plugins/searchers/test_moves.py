"""Mutations within the budget, and the selection of the best."""

import numpy as np
from search_problems import problem_of

from prunecast.architecture.architecture import sizes_of
from prunecast.architecture.choices import architectures_at, sizes_at
from prunecast.architecture.shape import ModelShape
from prunecast_plugins.searchers.moves import mutated, select
from prunecast_plugins.searchers.ranking import random_at_budget


def test_mutations_meet_the_budget_and_leave_their_parents_alone(shape: ModelShape) -> None:
    problem = problem_of(shape, lambda a: sizes_of(a).sum(axis=(1, 2)))
    parents = random_at_budget(problem, 40)
    before = parents.copy()
    children = mutated(problem, parents, 3)
    assert (parents == before).all()
    assert children.shape == parents.shape
    assert (children != parents).any(axis=1).mean() > 0.5
    sizes = sizes_at(problem.space.choices, shape.dense, children)
    assert (problem.budget.usage(sizes) <= 1).all()
    assert len(set(architectures_at(problem.space.choices, shape.dense, children))) > 20


def test_more_moves_change_more_choices(shape: ModelShape) -> None:
    problem = problem_of(shape, lambda a: sizes_of(a).sum(axis=(1, 2)))
    parents = random_at_budget(problem, 100)
    few, many = ((mutated(problem, parents, most) != parents).sum() for most in (1, 12))
    assert many > 1.5 * few


def test_the_selected_are_distinct_and_best_first() -> None:
    rows = np.array([[1, 1], [0, 2], [1, 1], [2, 0], [0, 0]])
    best, scores = select(rows, np.array([0.5, 0.1, 0.5, 0.9, 0.2]), 3)
    assert best.tolist() == [[0, 2], [0, 0], [1, 1]]
    assert scores.tolist() == [0.1, 0.2, 0.5]
