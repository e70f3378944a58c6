"""Local moves: mutations that move capacity between choices, and the best of a population."""

import numpy as np

from prunecast.plugins import Floats, Indices, SearchProblem, shift_level, switch_levels


def mutated(problem: SearchProblem, parents: Indices, most: int) -> Indices:
    """One mutation of each of N parents, fitted to the budget: shape (N, C).

    A mutation consists of a few moves. Half of them are level switches: one choice moves a step down and another one of
    the same size a step up, so that the cost of the architecture is unchanged. The other half move a single choice, and
    the result is fitted to the budget afterwards; such moves exchange capacity between attention and MLPs. As in
    EvoPress (arXiv 2410.14649, algorithm 1), the number of moves is the smaller of two uniform draws.

    Args:
        problem: the space, its budget and the generator of random numbers.
        parents: positions of the chosen values, shape (N, C), not changed.
        most: maximum number of moves, at least 1.
    """
    choices, rng = problem.space.choices, problem.rng
    children = parents.copy()
    moves = rng.integers(1, most + 1, size=(2, len(parents))).min(axis=0)
    for child, count in zip(children, moves, strict=True):
        for _ in range(count):
            move = switch_levels if rng.random() < 0.5 else shift_level
            move(child, choices, rng)
    return problem.budget.fit(choices, children, rng)


def select(indices: Indices, scores: Floats, count: int) -> tuple[Indices, Floats]:
    """The ``count`` best distinct rows of ``indices``, shape (N, C), and their scores, best first."""
    order = np.argsort(scores, kind="stable")
    _, first = np.unique(indices[order], axis=0, return_index=True)
    best = order[np.sort(first)[:count]]
    return indices[best], scores[best]
