"""Evaluators that fail: the run goes on, the reason is kept, and nothing is tried for ever."""

from contextlib import chdir
from typing import Any, Literal

import pytest
import torch
from workplace import Workplace

from prunecast.errors import EvaluationError
from prunecast.hookspecs import Entry, hookimpl
from prunecast.interfaces import Measurement
from prunecast.pipeline.progress import Progress
from prunecast.pipeline.runner import run
from prunecast.plugins import PluginHost
from prunecast.registry import Registry
from prunecast.spec.load import load_spec
from prunecast_plugins.evaluators.perplexity import Perplexity
from prunecast_plugins.evaluators.windows import WindowOptions

OWNER = "evaluator 'moody' of moody -"


class MoodyOptions(WindowOptions):
    mood: Literal["raises", "nan", "other-metric", "memory", "hopeless"]


class Moody(Perplexity):
    """Perplexity that goes wrong for every third architecture or so, always for the same ones."""

    options_model = MoodyOptions
    batches: list[int] = []

    def evaluate(self, model: Any) -> list[Measurement]:
        options: Any = self.options
        self.batches.append(options.batch)
        if options.mood == "memory" and options.batch > 1:
            raise torch.OutOfMemoryError("device out of memory")
        found = super().evaluate(model)
        wrong = found[0].value != self.dense and int(found[0].value * 1e6) % 3 == 0
        if options.mood == "hopeless" or (wrong and options.mood != "memory"):
            return self._go_wrong(options.mood, found[0])
        return found

    def observe_dense(self, model: Any) -> None:
        self.dense = super().evaluate(model)[0].value

    def _go_wrong(self, mood: str, measured: Measurement) -> list[Measurement]:
        if mood == "nan":
            return [Measurement(measured.metric, float("nan"), None, measured.count)]
        if mood == "other-metric":
            return []
        raise ZeroDivisionError("this one is too much")


class MoodyPlugin:
    @hookimpl
    def prunecast_evaluators(self) -> list[Entry]:
        return [Entry("moody", "test_pipeline_failures:Moody", "goes wrong at times")]


def execute(workplace: Workplace, mood: str) -> Any:
    host = PluginHost.discover()
    host.manager.register(MoodyPlugin(), "moody")
    evaluator = {"use": "moody", "dataset": "validation.txt", "tokens": 256, "context": 64, "mood": mood}
    workplace.write_spec("moody", {"evaluators": [evaluator], "verify": None, "export": None, "baselines": []})
    with chdir(workplace.folder), Registry.open("registry.db") as registry:
        return run(load_spec("moody.yaml", host), host, registry, Progress())


def failures(workplace: Workplace) -> list[tuple[str, int]]:
    with Registry.open(workplace.registry, readonly=True) as registry:
        rows = registry.rows("SELECT reason, attempts FROM failures ORDER BY reason, attempts")
        return [(row["reason"], row["attempts"]) for row in rows]


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("raises", f"{OWNER} failed in evaluate: ZeroDivisionError: this one is too much"),
        ("nan", f"{OWNER}: validation.validation.ppl is nan, not a finite number"),
        ("other-metric", f"{OWNER} measured other metrics than it promised"),
    ],
)
def test_run_goes_on_without_what_cannot_be_measured_and_gives_up_after_two_runs(
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


def test_nothing_measurable_is_one_clear_line(workplace: Workplace) -> None:
    with pytest.raises(EvaluationError, match="dense could not be measured"):
        execute(workplace, "hopeless")


def test_batch_is_halved_until_it_fits(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    Moody.batches.clear()
    result = execute(workplace, "memory")
    assert result.measured > 0
    assert Moody.batches[:3] == [4, 2, 1]
    assert set(Moody.batches[3:]) == {1}
    said = capsys.readouterr().err
    assert "moody: out of memory, going on with batch 2" in said
    assert "moody: out of memory, going on with batch 1" in said
