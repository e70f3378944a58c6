"""Random and known architectures at the budget, their predicted scores, and the best of them."""

from collections.abc import Iterable

import numpy as np

from prunecast.plugins import Architecture, Floats, Indices, SearchProblem, architectures_at, indices_of

BATCH = 2500
"""Number of architectures scored at once: large enough to be fast, small enough for frequent progress reports."""


def random_at_budget(problem: SearchProblem, count: int) -> Indices:
    """Random architectures of the space, fitted to the boundary of the budget, shape (count, C)."""
    choices = problem.space.choices
    return problem.budget.fit(choices, problem.space.sample(count, problem.rng), problem.rng)


def known_at_budget(problem: SearchProblem) -> Indices:
    """The known architectures that the space can express and that meet the budget, shape (K, C)."""
    choices, dense = problem.space.choices, problem.space.shape.dense
    met = [known for known in problem.known if problem.budget.met_by(known)]
    rows = [row for known in met if (row := indices_of(choices, dense, known)) is not None]
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(choices))


def score(problem: SearchProblem, indices: Indices) -> tuple[list[Architecture], Floats]:
    """Architectures at ``indices`` and their predicted scores, shape (N,), reporting progress batch by batch."""
    architectures = architectures_at(problem.space.choices, problem.space.shape.dense, indices)
    scores: list[Floats] = [np.empty(0)]
    for start in range(0, len(architectures), BATCH):
        batch = architectures[start : start + BATCH]
        scores.append(problem.score(batch))
        problem.progress(len(batch))
    return architectures, np.concatenate(scores)


def best_of(scored: Iterable[tuple[Architecture, float]], count: int) -> list[Architecture]:
    """The ``count`` distinct architectures with the smallest scores; ties are broken by their keys."""
    ranked = sorted(dict(scored).items(), key=lambda pair: (pair[1], pair[0].key))
    return [architecture for architecture, _ in ranked[:count]]
