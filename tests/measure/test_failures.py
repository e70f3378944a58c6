"""Failing evaluators: the run continues, the reason is stored, and the number of attempts is limited."""

from collections.abc import Iterator
from contextlib import chdir, contextmanager
from typing import Any

import pytest
import torch
from moody import OWNER, TOO_MUCH, Moody, MoodyPlugin
from workplace import Workplace

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.choices import Component
from prunecast.errors import EvaluationError
from prunecast.measure.dispatch import Dispatch
from prunecast.measure.engine import Engine
from prunecast.measure.measure import Measuring
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.plugins.listeners import Listeners
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.run.runner import run
from prunecast.spec.load import load_spec

ARCHITECTURES = [Architecture([(4, 2, 24)] * 3 + [(4, 2, width)]) for width in (24, 16, 8)]


def host_with_spec(workplace: Workplace, mood: str, use: str = "moody") -> PluginHost:
    Moody.batches.clear()
    host = PluginHost.discover()
    host.manager.register(MoodyPlugin(), "moody")
    evaluator = {"use": use, "dataset": "validation.txt", "tokens": 256, "context": 64, "mood": mood}
    workplace.write_spec("moody", {"evaluators": [evaluator], "verify": None, "export": None, "baselines": []})
    return host


def execute(workplace: Workplace, mood: str, use: str = "moody") -> Any:
    host = host_with_spec(workplace, mood, use)
    with chdir(workplace.folder), Registry.open("registry.db") as registry:
        return run(load_spec("moody.yaml", host), host, registry, Progress())


@pytest.fixture
def measuring(workplace: Workplace) -> Iterator[tuple[Measuring, Setup]]:
    """Measuring with an evaluator that runs out of memory from the second architecture on."""
    with measuring_in(workplace, "processor-later") as prepared:
        yield prepared


@contextmanager
def measuring_in(workplace: Workplace, mood: str, batch: int = 4) -> Iterator[tuple[Measuring, Setup]]:
    host = host_with_spec(workplace, mood)
    with chdir(workplace.folder), Registry.open("registry.db") as registry:
        setup = Setup(load_spec("moody.yaml", host, [f"evaluators.0.batch={batch}"]), host)
        run_id = registry.start_run(setup.spec.key, "moody", setup.spec.to_json(), "").id
        quiet = Progress(quiet=True)
        engine = Engine(setup, quiet)
        dispatch = Dispatch.of(setup, engine, quiet)
        yield Measuring(setup, dispatch, engine, registry, run_id, quiet, Listeners(host)), setup


def failures(workplace: Workplace) -> list[tuple[str, int]]:
    with Registry.open(workplace.registry, readonly=True) as registry:
        rows = registry.rows("SELECT reason, attempts FROM failures ORDER BY reason, attempts")
        return [(row["reason"], row["attempts"]) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("raises", f"{OWNER} failed in evaluate: ZeroDivisionError: this one is too much"),
        ("nan", f"{OWNER}: validation.validation.ppl is nan, not a finite number"),
        ("other-metric", f"{OWNER} measured other metrics than its property metrics lists"),
    ],
)
def test_failed_evaluations_are_skipped_and_retried_in_one_more_run(
    mood: str, reason: str, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    first = execute(workplace, mood)
    failed = failures(workplace)
    assert failed
    assert {found for found, _ in failed} == {reason}
    assert {attempts for _, attempts in failed} == {1}
    assert capsys.readouterr().err.count(f": {reason}") == len(failed)
    again = execute(workplace, mood)
    assert {attempts for _, attempts in failures(workplace)} == {2}
    capsys.readouterr()
    third = execute(workplace, mood)
    assert failures(workplace) == [(reason, 2)] * len(failed)
    assert "not measured" not in capsys.readouterr().err
    assert first.best.architecture == again.best.architecture == third.best.architecture
    assert (again.measured, third.measured) == (0, 0)


def test_a_round_does_not_propose_architectures_that_failed_before(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Measuring.measure

    def fails_in_round_1(self: Measuring, stage: str, *rest: Any) -> Any:
        found = measure(self, stage, *rest)
        return {} if stage == "round 1" else found

    monkeypatch.setattr(Measuring, "measure", fails_in_round_1)
    searching = {"searcher": {"use": "random", "samples": 2000}, "choose": {"rule": "greedy"}}
    workplace.write_spec("unlucky", {**searching, "verify": None, "export": None, "baselines": []})
    host = PluginHost.discover()
    with chdir(workplace.folder), Registry.open("registry.db") as registry:
        rounds = run(load_spec("unlucky.yaml", host), host, registry, Progress()).rounds
    first, second = ({each.architecture for each in one.chosen} for one in rounds)
    assert len(first) == len(second) == 3
    assert not first & second


def test_a_dense_model_that_cannot_be_measured_is_an_error(workplace: Workplace) -> None:
    with pytest.raises(EvaluationError, match="dense could not be measured"):
        execute(workplace, "hopeless")


@pytest.mark.parametrize("mood", ["device", "processor", "python"])
def test_batch_is_halved_until_it_fits(mood: str, workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    result = execute(workplace, mood)
    assert result.measured > 0
    assert Moody.batches[:3] == [4, 2, 1]
    assert set(Moody.batches[3:]) == {1}
    said = capsys.readouterr().err
    assert "moody: out of memory, going on with batch 2" in said
    assert "moody: out of memory, going on with batch 1" in said


def test_batch_is_not_halved_if_metrics_depend_on_it(workplace: Workplace) -> None:
    with pytest.raises(EvaluationError, match="dense could not be measured"):
        execute(workplace, "processor", use="own-batch")
    assert Moody.batches == [4]
    [(reason, _)] = failures(workplace)
    assert reason == (
        "evaluator 'own-batch' of moody -: out of memory with batch 4, on which its numbers depend; write a smaller "
        "batch beside use: own-batch"
    )


def test_activations_of_larger_batches_are_dropped_after_out_of_memory(measuring: tuple[Measuring, Setup]) -> None:
    measured, setup = measuring
    assert len(measured.measure("pairs", ARCHITECTURES, setup.evaluators)) == 3
    assert Moody.batches == [4, 4, 2, 1, 1]
    windows = 256 // 64
    assert len({batch for batch, _ in measured._engine._reuse._stored}) == windows


class Greedy:
    """Compensation that runs out of memory for MLPs of 16 channels."""

    def of(self, layer: int, component: Component, kept: Layer) -> None:
        if kept.mlp_width == 16:
            torch.empty(TOO_MUCH, dtype=torch.int8)


def test_out_of_memory_in_compensation_is_a_failure_of_that_architecture(
    measuring: tuple[Measuring, Setup], workplace: Workplace
) -> None:
    measured, setup = measuring
    measured._engine.elastic.compensation = Greedy()
    found = measured.measure("pairs", ARCHITECTURES, setup.evaluators)
    assert list(found) == [ARCHITECTURES[0], ARCHITECTURES[2]]
    assert failures(workplace) == [
        (
            "out of memory on cpu while its weights were compensated: free memory there, or set model.device to "
            "another or compensate to none",
            1,
        )
    ]


def test_activations_are_dropped_after_out_of_memory_with_batch_one(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Moody, "crowded", (2,))
    with measuring_in(workplace, "crowded", batch=1) as (measured, setup):
        assert len(measured.measure("pairs", ARCHITECTURES, setup.evaluators)) == 3
    assert len(Moody.batches) == 4


def test_out_of_memory_without_cached_activations_is_a_failure(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Moody, "crowded", range(2, 100))
    with measuring_in(workplace, "crowded", batch=1) as (measured, setup):
        assert len(measured.measure("pairs", ARCHITECTURES, setup.evaluators)) == 1
    assert len(failures(workplace)) == 2
    assert len(Moody.batches) < 100
