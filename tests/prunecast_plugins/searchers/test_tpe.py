"""The tpe searcher: its proposals alone, its local moves, and what its sampler is told."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from search_problems import problem_of

from prunecast.architecture.shape import ModelShape
from prunecast.testing import KnownOptimum
from prunecast_plugins.searchers.evolution import Evolution, EvolutionOptions
from prunecast_plugins.searchers.random import Random, RandomOptions
from prunecast_plugins.searchers.tpe import TPE, TPEOptions


def regret(searcher: Any, seed: int) -> float:
    landscape = KnownOptimum(seed=seed)
    return float(landscape.regret(searcher.search(landscape.problem(seed), 1))[0])


@pytest.mark.parametrize("multivariate", [True, False])
def test_proposals_without_local_moves_are_better_than_random_ones(multivariate: bool) -> None:
    tpe = TPE(TPEOptions(startup=100, trials=60, batch=10, seeds=40, steps=0, multivariate=multivariate))
    random = Random(RandomOptions(samples=tpe.evaluations))
    assert np.mean([regret(tpe, seed) for seed in range(3)]) < 0.8 * np.mean([regret(random, s) for s in range(3)])


def test_it_is_as_good_as_evolution_with_as_many_evaluations(shape: ModelShape, truth: Callable[..., Any]) -> None:
    tpe = TPE(TPEOptions(startup=200, trials=60, batch=10, steps=5, offspring=25))
    evolution = Evolution(EvolutionOptions(startup=200, offspring=40, generations=20))
    assert tpe.evaluations <= evolution.evaluations + 10
    best = {
        searcher: np.mean(
            [truth(searcher.search(problem_of(shape, lambda a: truth(a)[:, 0], seed=s), 1))[0, 0] for s in range(3)]
        )
        for searcher in (tpe, evolution)
    }
    assert best[tpe] < best[evolution] + 0.02


def test_the_sampler_learns_from_a_bounded_number_of_trials(
    shape: ModelShape, truth: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[optuna.trial.FrozenTrial]] = []
    add_trials = optuna.Study.add_trials

    def noted(study: optuna.Study, trials: Any) -> None:
        told.append(list(trials))
        add_trials(study, told[-1])

    monkeypatch.setattr(optuna.Study, "add_trials", noted)
    problem = problem_of(shape, lambda a: truth(a)[:, 0])
    TPE(TPEOptions(startup=50, trials=40, batch=10, seeds=12, steps=2, offspring=20)).search(problem, 1)
    assert [len(trials) for trials in told] == [12] * 4
    means = [np.mean([trial.value for trial in trials]) for trials in told]
    assert means == sorted(means, reverse=True), "the sampler is told the best so far"
    assert not any(trial.constraints for trials in told for trial in trials)
