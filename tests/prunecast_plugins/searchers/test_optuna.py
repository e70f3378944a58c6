"""Optuna's samplers by name: their parameters and seeds, and samplers of OptunaHub."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_problems import problem_of

from prunecast.architecture.choices import architectures_at
from prunecast.architecture.shape import ModelShape
from prunecast_plugins.searchers.optuna import Optuna, OptunaOptions
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions

SMALL: dict[str, Any] = {"trials": 24, "startup": 100, "seeds": 10, "batch": 6}

SAMPLERS: dict[str, dict[str, Any]] = {
    "TPESampler": {"multivariate": True, "group": True},
    "NSGAIISampler": {"population_size": 6},
    "QMCSampler": {"qmc_type": "halton", "independent_sampler": {"class": "RandomSampler"}},
    "BruteForceSampler": {},
    "optuna.samplers.PartialFixedSampler": {"fixed_params": {"mlp.3": 1}, "base_sampler": {"class": "RandomSampler"}},
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_proposes_and_repeats_from_a_seed(
    name: str, shape: ModelShape, truth: Callable[..., Any]
) -> None:
    searcher = Optuna(OptunaOptions(sampler=name, **SAMPLERS[name], **SMALL))

    def proposals(seed: int) -> list[Any]:
        return searcher.search(problem_of(shape, lambda a: truth(a)[:, 0], seed=seed), 20)

    first = proposals(1)
    assert len(first) == 20
    assert all(problem_of(shape, len).budget.met_by(architecture) for architecture in first)
    assert proposals(1) == first
    assert proposals(2) != first


def test_parameters_reach_the_sampler_and_everything_in_it_is_seeded() -> None:
    nested = {"class": "optuna.samplers.TPESampler", "n_startup_trials": 3}
    options = OptunaOptions(sampler="CmaEsSampler", sigma0=0.25, independent_sampler=nested)
    sampler: Any = options.instance(seed=7)
    assert sampler._sigma0 == 0.25
    inner = sampler._independent_sampler
    assert inner._n_startup_trials == 3
    again: Any = options.instance(seed=7)
    assert inner._rng.rng.random() == again._independent_sampler._rng.rng.random()


HUB_PACKAGE = """
from optuna.samplers import RandomSampler

class LuckySampler(RandomSampler):
    def __init__(self, luck: int = 1, seed: int | None = None) -> None:
        super().__init__(seed)
        self.luck = luck
"""


def test_a_sampler_of_optunahub_is_found_by_its_package_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: ModelShape, truth: Callable[..., Any]
) -> None:
    # OptunaHub's download cache; without it this test would need the network.
    package = tmp_path / "github.com" / "optuna" / "optunahub-registry" / "main" / "package" / "samplers" / "lucky"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(HUB_PACKAGE)
    monkeypatch.setenv("OPTUNAHUB_CACHE_HOME", str(tmp_path))
    lucky: dict[str, Any] = {"sampler": "samplers/lucky", "trust_remote_code": True}
    options = OptunaOptions(**lucky, luck=3, **SMALL)
    made: Any = options.instance(seed=0)
    assert made.luck == 3
    assert len(Optuna(options).search(problem_of(shape, lambda a: truth(a)[:, 0]), 5)) == 5
    with pytest.raises(ValueError, match=r"unknown option 'lick' .did you mean 'luck'?"):
        OptunaOptions(**lucky, lick=3)


def small_space(shape: ModelShape, count: int) -> Any:
    """A space of 2 to the power of ``count`` architectures."""
    return Layerwise(LayerwiseOptions(attention=(), mlp=(0.0, 0.5), layers=f"0:{count}"), shape)


@pytest.mark.parametrize("trials", [4, 60])
@pytest.mark.parametrize(
    "sampler",
    [
        {"sampler": "BruteForceSampler"},
        {"sampler": "BruteForceSampler", "avoid_premature_stop": True},
        {"sampler": "GridSampler", "search_space": {"mlp.0": [0, 1], "mlp.1": [0, 1]}},
        {
            "sampler": "PartialFixedSampler",
            "fixed_params": {"mlp.0": 1},
            "base_sampler": {"class": "BruteForceSampler"},
        },
        {"sampler": "TPESampler"},
        {"sampler": "CmaEsSampler"},
    ],
    ids=str,
)
def test_a_search_of_an_exhausted_space_ends_with_the_best_of_it(
    sampler: dict[str, Any],
    trials: int,
    shape: ModelShape,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    space = small_space(shape, 2)
    ranked = architectures_at(space.choices, shape.dense, np.array([[1, 1], [1, 0], [0, 1], [0, 0]]))
    share = float(shape.count([ranked[1]])[0] / shape.count([shape.dense])[0])  # the first does not meet it
    problem = problem_of(
        shape, lambda batch: np.array([float(ranked.index(a)) for a in batch]), space=space, share=share
    )
    searcher = Optuna(OptunaOptions(**sampler, trials=trials, startup=5, seeds=2, batch=3))
    with caplog.at_level(logging.WARNING):
        found = searcher.search(problem, 10)
    assert found[:2] == ranked[1:3]
    assert set(found) <= set(ranked[1:])
    exhausted = sampler["sampler"] in ("BruteForceSampler", "GridSampler") and trials == 60
    assert [line.partition(":")[0] for line in caplog.messages if "exhausted" in line] == ["note"] * exhausted
    assert capfd.readouterr().err == "", "no warning for every proposal"
