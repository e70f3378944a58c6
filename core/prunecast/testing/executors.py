"""Checks of executors."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.errors import ExecutorError
from prunecast.measure.dispatch import Dispatch, Result
from prunecast.measure.engine import Engine
from prunecast.measure.setup import Setup
from prunecast.measure.worker import Task, Worker, job_of
from prunecast.plugins.executor import Executor, WorkerEvent
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.spec.load import parse_spec
from prunecast.testing.checks import Conformance, Subject, Suite, Verdict, require
from prunecast.testing.common import COMMON_CHECKS
from prunecast.testing.models import byte_tokenizer, tiny_model

ARCHITECTURES = ("4x2+24*3", "2x2+16*3", "4x2+24 0+0 4x2+24", "3x1+17 0+24 4x2+0")
"""Architectures of the tiny model."""

SECONDS = 120.0
"""Longest time that a worker may take to start."""

_SPEC = """\
name: conformance
model: {source: model, dtype: float32, device: cpu}
space: layerwise
pruner: magnitude
evaluators: [{use: perplexity, dataset: text.txt, tokens: 64, context: 32}]
predictor: gbdt
searcher: random
"""

_TEXT = "the river runs past the mill, and the miller's cat sleeps in the sun. " * 40


class ExecutorSubject(Subject[Executor[Any]]):
    """An executor under test."""

    def make(self) -> Executor[Any]:
        """A new executor."""
        return self.plugin(self.validated())

    @contextmanager
    def dispatch(self, changes: Mapping[str, Any] | None = None) -> Iterator[Dispatch]:
        """The workers of the case, with some entries of the job changed."""
        executor, job = self.make(), {**case().job, **(changes or {})}
        with Dispatch(executor, lambda: job, case().worker.do, Progress(quiet=True)) as workers:
            yield workers

    def exercise(self) -> None:
        """Measure one architecture."""
        with self.dispatch() as workers:
            case().measured(workers, 1)


class Case:
    """A model and a text, and what a worker is made from.

    Attributes:
        job: the job.
        worker: a worker in this process.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        folder, tokenizer = Path(self._folder.name), byte_tokenizer()
        tiny_model(vocab_size=len(tokenizer)).save_pretrained(folder / "model")
        tokenizer.save_pretrained(str(folder / "model"))
        (folder / "text.txt").write_text(_TEXT, encoding="utf-8")
        host = PluginHost.discover()
        self._setup = Setup(parse_spec(_SPEC, host, [f"folder={json.dumps(str(folder))}"]), host)
        self.worker = Worker(self._setup, Engine(self._setup, Progress(quiet=True)))
        self.job = job_of(self._setup)

    def tasks(self, count: int) -> list[Task]:
        """Tasks of the first architectures."""
        named = self._setup.verifiers[0]
        return [Task(named, Architecture.parse(text)) for text in ARCHITECTURES[:count]]

    def measured(self, workers: Dispatch, count: int) -> list[Result]:
        """Results of the first architectures, in the order in which they came."""
        several = workers.results(self.tasks(count), lambda asked: [True] * len(asked))
        return [result for results in several for result in results]


@cache
def case() -> Case:
    """The same case every time."""
    return Case()


def tasks_are_answered_once_with_the_numbers_of_this_process(subject: ExecutorSubject) -> None:
    """Every task has one answer, and its numbers are those of the same task in the process of the run."""
    with subject.dispatch() as workers:
        found = case().measured(workers, len(ARCHITECTURES))
        again = case().measured(workers, 2)
    keys = [result.task.key for result in found]
    require(len(set(keys)) == len(keys) == len(ARCHITECTURES), f"{len(keys)} answers to {len(ARCHITECTURES)} tasks")
    for result in [*found, *again]:
        here = case().worker.do(result.task.to_plain())
        there = [[each.metric.name, each.value, each.standard_error, each.count] for each in result.measurements]
        require(
            there == here["measurements"], f"{result.task.architecture}: {there} there, {here['measurements']} here"
        )


def a_stopped_worker_is_replaced(subject: ExecutorSubject) -> None:
    """After ``stop`` another worker becomes ready, under a name of its own, and works."""
    executor = subject.make()
    executor.start(case().job, case().worker.do)
    try:
        first = _next(executor, "ready", set())
        executor.stop(first.worker)
        second = _next(executor, "ready", {first.worker})
        executor.send(second.worker, case().tasks(1)[0].to_plain())
        answer = _next(executor, "answer", {first.worker})
        require("measurements" in answer.answer, f"the replacement answers {answer.answer!r}")
    finally:
        executor.close()


def a_job_that_does_not_fit_is_refused(subject: ExecutorSubject) -> None:
    """Workers that find another model say so, and the run ends with an ExecutorError of one line."""
    try:
        with subject.dispatch({"fingerprint": "0" * 32}) as workers:
            case().measured(workers, 1)
    except ExecutorError as error:
        require("\n" not in str(error), f"the error has several lines: {error}")
    else:
        require(False, "another model is measured")


def closing_ends_all_processes(subject: ExecutorSubject) -> None:
    """After ``close`` no process is left that was started since."""
    import psutil

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with subject.dispatch() as workers:
        case().measured(workers, 2)
    new = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    _, alive = psutil.wait_procs(new, timeout=10)
    left = []
    for child in alive:
        with suppress(psutil.Error):
            left.append(" ".join(child.cmdline())[:80])
    require(not left, f"still running: {'; '.join(left)}")


def events_waits_no_longer_than_asked(subject: ExecutorSubject) -> None:
    """``events`` returns within the time given even if nothing happens."""
    executor = subject.make()
    executor.start(case().job, case().worker.do)
    try:
        _next(executor, "ready", set())
        began = time.monotonic()
        executor.events(0.1)
        executor.events(0.1)
        require(time.monotonic() - began < 5, f"two waits of 0.1 s take {time.monotonic() - began:.1f} s")
    finally:
        executor.close()


def _next(executor: Executor[Any], what: str, not_of: set[str]) -> WorkerEvent:
    """The next event of a kind that is not of certain workers."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for event in executor.events(1.0):
            if event.what == what and event.worker not in not_of:
                return event
            require(event.what not in ("refused", "gone"), f"worker {event.worker} is {event.what}: {event.reason}")
            require(event.worker not in not_of, f"an event of the stopped worker {event.worker}")
    raise ExecutorError(f"no worker is {what} within {SECONDS:.0f} s")


EXECUTORS: Suite[Any] = Suite(
    ExecutorSubject,
    (
        *COMMON_CHECKS,
        tasks_are_answered_once_with_the_numbers_of_this_process,
        a_stopped_worker_is_replaced,
        a_job_that_does_not_fit_is_refused,
        closing_ends_all_processes,
        events_waits_no_longer_than_asked,
    ),
)
"""Suite of executors."""


class ExecutorConformance(Conformance, suite=EXECUTORS):
    """Base of a test class for an executor: set ``plugin``, and every check of executors becomes a test."""


def check_executor(
    plugin: type[Executor[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Run every check on an executor. Raises CheckFailed, with one line per failed check, if any fails.

    The arguments are those of :func:`prunecast.testing.check_predictor`.
    """
    return EXECUTORS.check(plugin, options, expected_failures)
