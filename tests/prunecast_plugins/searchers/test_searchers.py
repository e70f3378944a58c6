"""The bundled searchers, on an objective with a known optimum."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from search_problems import problem_of

from prunecast.architecture.architecture import Architecture, sizes_of
from prunecast.architecture.choices import architectures_at
from prunecast.architecture.shape import ModelShape
from prunecast.errors import BudgetError
from prunecast_plugins.searchers.evolution import Evolution, EvolutionOptions
from prunecast_plugins.searchers.optuna import Optuna, OptunaOptions
from prunecast_plugins.searchers.random import Random, RandomOptions
from prunecast_plugins.searchers.tpe import TPE, TPEOptions
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions

SEARCHERS = [
    Random(RandomOptions(samples=2000)),
    TPE(TPEOptions(trials=60, startup=500, seeds=30, batch=20, offspring=50)),
    TPE(TPEOptions(trials=20, startup=500, seeds=30, batch=7, offspring=50, multivariate=False)),
    Evolution(EvolutionOptions(startup=500, survivors=5, offspring=40, generations=5)),
    Optuna(OptunaOptions(sampler="CmaEsSampler", popsize=8, trials=60, startup=500, seeds=16, batch=8)),
]
each_searcher = pytest.mark.parametrize(
    "searcher", SEARCHERS, ids=["random", "tpe", "tpe-univariate", "evolution", "optuna"]
)


@each_searcher
def test_proposals_are_distinct_within_budget_and_best_first(
    searcher: Any, shape: ModelShape, truth: Callable[..., Any]
) -> None:
    problem = problem_of(shape, lambda a: truth(a)[:, 0])
    found = searcher.search(problem, 25)
    assert len(set(found)) == len(found) == 25
    assert all(problem.budget.met_by(architecture) for architecture in found)
    scores = truth(found)[:, 0]
    assert (np.diff(scores) >= 0).all()


@each_searcher
def test_best_proposal_beats_the_average_architecture_of_the_budget(
    searcher: Any, shape: ModelShape, truth: Callable[..., Any]
) -> None:
    problem = problem_of(shape, lambda a: truth(a)[:, 0])
    rng = np.random.default_rng(9)
    choices = problem.space.choices
    average = architectures_at(choices, shape.dense, problem.budget.fit(choices, problem.space.sample(500, rng), rng))
    typical = truth(average)[:, 0]
    assert truth(searcher.search(problem, 1))[0, 0] < typical.mean() - 2 * typical.std()


@each_searcher
def test_finds_the_optimum_of_a_small_space(searcher: Any, shape: ModelShape) -> None:
    space = Layerwise(LayerwiseOptions(layers="0:12", attention=(), mlp=(0, 0.5), tie=3), shape)

    def score(architectures: Sequence[Architecture]) -> np.ndarray:
        return sizes_of(architectures)[..., 2] @ -np.arange(12.0)

    problem = problem_of(shape, score, space=space, share=0.85)
    indices = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1).T
    every = [a for a in architectures_at(space.choices, shape.dense, indices) if problem.budget.met_by(a)]
    best = min(every, key=lambda architecture: score([architecture])[0])
    assert searcher.search(problem, 1) == [best]


@each_searcher
def test_same_seed_gives_the_same_proposals(searcher: Any, shape: ModelShape, truth: Callable[..., Any]) -> None:
    first, second = (searcher.search(problem_of(shape, lambda a: truth(a)[:, 0], seed=5), 10) for _ in range(2))
    assert first == second


@each_searcher
def test_a_known_optimum_stays_among_the_proposals(searcher: Any, shape: ModelShape) -> None:
    hidden = Architecture([(3, 3, 96), (0, 0, 48)] * 6)

    def score(architectures: Sequence[Architecture]) -> np.ndarray:
        return np.array([0.0 if architecture == hidden else 1.0 for architecture in architectures])

    problem = problem_of(shape, score, known=[hidden], share=0.8)
    assert problem.budget.met_by(hidden)
    assert searcher.search(problem, 1) == [hidden]


@each_searcher
def test_progress_reaches_the_total_and_an_impossible_budget_is_an_error(searcher: Any, shape: ModelShape) -> None:
    steps: list[int] = []
    searcher.search(problem_of(shape, lambda a: np.zeros(len(a)), progress=steps.append), 3)
    assert sum(steps) >= searcher.evaluations
    with pytest.raises(BudgetError, match="no architecture"):
        searcher.search(problem_of(shape, lambda a: np.zeros(len(a)), share=0.05), 3)
