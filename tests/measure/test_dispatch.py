"""Dispatch: every task is answered exactly once, whatever happens to workers."""

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scripted_executor import Scripted

from prunecast.architecture.architecture import Architecture
from prunecast.errors import BudgetError, DataError, ExecutorError
from prunecast.measure import dispatch as dispatching
from prunecast.measure.dispatch import MOST_LOSSES, Dispatch, Result
from prunecast.measure.setup import NamedEvaluator
from prunecast.measure.worker import Task
from prunecast.plugins import Plain, WorkerEvent
from prunecast.progress import Progress
from prunecast.testing.executors import case

ABOUT: dict[str, Any] = {"device": "cpu", "versions": {"torch": "2"}, "seconds": 0.0}


@pytest.fixture(scope="module")
def named() -> NamedEvaluator:
    """An evaluator of one metric."""
    return case().tasks(1)[0].named


def tasks(named: NamedEvaluator, number: int) -> list[Task]:
    return [Task(named, Architecture([(4, 2, 1 + index % 24), (4, 2, 1 + index // 24)])) for index in range(number)]


def value_of(task: Plain) -> float:
    return 1.0 + sum(width * 100**layer for layer, (_, _, width) in enumerate(task["architecture"]))


def answered(named: NamedEvaluator) -> Callable[[Plain], dict[str, Any]]:
    """Answers at once, with a number that the architecture determines."""
    (metric,) = named.metrics
    return lambda task: ABOUT | {"measurements": [[metric.name, value_of(task), None, 1]]}


class Claims:
    """Claims everything, once each."""

    def __init__(self) -> None:
        self.claimed: Counter[object] = Counter()

    def __call__(self, asked: Any) -> list[bool]:
        self.claimed.update(task.key for task in asked)
        return [True] * len(asked)


class Ticks:
    """A clock on which a look takes a tenth of a millisecond, however busy the machine is."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1e-4
        return self.now


def all_results(
    executor: Scripted, wanted: list[Task], claim: Any = None, more: Any = None
) -> tuple[list[Result], Dispatch]:
    with Dispatch(executor, dict, lambda task: {}, Progress(quiet=True)) as workers:
        results = [result for several in workers.results(wanted, claim or Claims(), more) for result in several]
    return results, workers


def scripted(named: NamedEvaluator, workers: int = 3, seed: int = 0) -> Scripted:
    return Scripted(workers, answered(named), np.random.default_rng(seed))


def lose(worker: str, task: Plain, answer: dict[str, Any]) -> WorkerEvent:
    return WorkerEvent(worker, "gone", reason="power cut")


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_a_hundred_rounds_of_random_faults_lose_nothing_and_repeat_nothing(
    at_once: int, seed: int, named: NamedEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers die, hang and answer nonsense; some architectures kill whoever measures them."""
    monkeypatch.setattr(dispatching, "time", Ticks())
    monkeypatch.setattr(dispatching, "LEAST_SECONDS", 0.02)
    monkeypatch.setattr(dispatching, "FIRST_SECONDS", 0.05)
    rng = np.random.default_rng(seed)
    executor, wanted, claims = scripted(named, int(rng.integers(1, 6)), seed), tasks(named, 60), Claims()
    poison = {str(wanted[place].to_plain()) for place in rng.permutation(60)[:2]}
    harmed, later = set[str](), wanted[40:]

    def fault(worker: str, task: Plain, answer: dict[str, Any]) -> WorkerEvent | None:
        key = str(task)
        if key in poison:
            return lose(worker, task, answer)
        if key in harmed or rng.random() > 0.1:
            return WorkerEvent(worker, "answer", answer)
        harmed.add(key)  # the next worker manages
        kind = int(rng.integers(3))
        return [lose(worker, task, answer), WorkerEvent(worker, "answer", {"nonsense": 1}), None][kind]

    executor.fault, executor.tasks_at_once = fault, at_once
    results, workers = all_results(executor, wanted[:40], claims, more=lambda: [later.pop() for _ in later[:5]])
    assert Counter(result.task.key for result in results) == Counter(task.key for task in wanted)
    assert claims.claimed == Counter(task.key for task in wanted)
    failed = {str(result.task.to_plain()) for result in results if result.failed}
    assert failed == poison
    for result in results:
        if not result.failed:
            assert result.measurements[0].value == value_of(result.task.to_plain())
    assert sum(workers.lost.values()) == len(harmed) + MOST_LOSSES * len(poison)
    assert sum(workers.answered.values()) == 60 - len(poison)
    assert executor.closed == 1


def test_neighbours_go_to_one_worker(named: NamedEvaluator) -> None:
    executor, wanted = scripted(named, workers=4), tasks(named, 240)
    all_results(executor, wanted)
    place = {str(task.to_plain()): index for index, task in enumerate(wanted)}
    by_worker: dict[str, list[int]] = {}
    for worker, task in executor.sent:
        by_worker.setdefault(worker, []).append(place[str(task)])
    steps = [b - a for places in by_worker.values() for a, b in pairwise(places)]
    assert len(by_worker) == 4
    assert sum(step == 1 for step in steps) >= 0.9 * len(steps)


def test_workers_go_on_while_the_run_thinks_about_what_to_measure_next(named: NamedEvaluator) -> None:
    """Before more tasks are asked for, every worker that takes two has another one in hand."""
    executor, wanted = scripted(named, workers=4), tasks(named, 240)
    executor.tasks_at_once, later = 2, [wanted[100:200], wanted[200:], []]
    in_hand: list[int] = []

    def more() -> list[Task]:
        in_hand.append(min(map(len, executor.alive.values())))
        return later.pop(0) if later else []

    results, _ = all_results(executor, wanted[:100], more=more)
    assert Counter(result.task.key for result in results) == Counter(task.key for task in wanted)
    assert set(in_hand[2:60]) == {1}  # 2 less the answer that has just come in


def test_nobody_waits_behind_another_task_where_all_tasks_are_known(named: NamedEvaluator) -> None:
    executor = scripted(named, workers=4)
    executor.tasks_at_once, most = 2, []
    results = all_results(
        executor, tasks(named, 40), claim=lambda asked: most.append(len(asked)) or [True] * len(asked)
    )
    assert len(results[0]) == 40
    assert max(most) <= 4


def test_what_is_not_granted_is_not_measured(named: NamedEvaluator) -> None:
    executor, wanted = scripted(named), tasks(named, 20)
    results, _ = all_results(executor, wanted, lambda asked: [task.key != wanted[3].key for task in asked])
    assert {task.key for task in wanted} - {result.task.key for result in results} == {wanted[3].key}
    assert len(executor.sent) == 19


def test_without_tasks_no_worker_is_started(named: NamedEvaluator) -> None:
    executor = scripted(named)
    assert all_results(executor, [])[0] == []
    assert not executor.closed


@pytest.mark.parametrize(
    "change",
    [
        {"measurements": [["other", 1.0, None, 1]]},
        {"measurements": []},
        {"measurements": 3},
        {"seconds": -1.0},
        {"seconds": "long"},
        {"versions": 3},
        {"measurements": [["text.validation.ppl", float("nan"), None, 1]]},
        {"measurements": [["text.validation.ppl", "9", None, 1]]},
        {"measurements": [["text.validation.ppl", 9.0, None, "many"]]},
        {"measurements": [["text.validation.ppl", -9.0, None, 1]]},
    ],
)
def test_a_worker_that_answers_nonsense_is_replaced_and_its_answer_not_taken(
    change: dict[str, Any], named: NamedEvaluator
) -> None:
    executor, wanted = scripted(named), tasks(named, 12)
    assert named.metrics[0].name == "text.validation.ppl"
    told: list[str] = []

    def fault(worker: str, task: Plain, answer: dict[str, Any]) -> WorkerEvent:
        if task == wanted[5].to_plain() and not told:
            told.append(worker)
            return WorkerEvent(worker, "answer", answer | change)
        return WorkerEvent(worker, "answer", answer)

    executor.fault = fault
    results, workers = all_results(executor, wanted)
    assert workers.lost == {"nonsense": 1}
    assert told[0] not in workers.answered or told[0] not in executor.alive
    assert {result.task.key: result.measurements[0].value for result in results} == {
        task.key: value_of(task.to_plain()) for task in wanted
    }


def test_an_error_of_a_worker_that_concerns_all_tasks_ends_the_run_with_it(named: NamedEvaluator) -> None:
    executor = scripted(named)
    executor.fault = lambda worker, task, answer: WorkerEvent(
        worker, "answer", {"error": "no such text", "class": "DataError"}
    )
    with pytest.raises(DataError, match=r"^no such text$"):
        all_results(executor, tasks(named, 3))
    assert executor.closed == 1


def test_an_error_of_a_class_that_is_a_value_error_is_no_nonsense(named: NamedEvaluator) -> None:
    executor = scripted(named)
    executor.fault = lambda worker, task, answer: WorkerEvent(
        worker, "answer", {"error": "too small", "class": "BudgetError"}
    )
    with pytest.raises(BudgetError, match=r"^too small$"):
        all_results(executor, tasks(named, 3))


@pytest.mark.parametrize("name", ["SystemExit", "SpecError", "PrunecastError", "annotations", None, 3])
def test_the_class_of_an_error_is_one_of_prunecast(name: Any, named: NamedEvaluator) -> None:
    executor = scripted(named)
    executor.fault = lambda worker, task, answer: WorkerEvent(worker, "answer", {"error": "broken", "class": name})
    with pytest.raises(Exception, match=r"^broken$") as caught:
        all_results(executor, tasks(named, 3))
    assert type(caught.value).__name__ in ("ExecutorError", "PrunecastError")


def test_workers_that_do_nothing_but_die_end_the_run(named: NamedEvaluator) -> None:
    executor = scripted(named)
    executor.fault = lose
    with pytest.raises(ExecutorError, match="workers were lost with no answer in between, the last one: power cut"):
        all_results(executor, tasks(named, 100))


def test_a_worker_that_never_becomes_ready_ends_the_run(named: NamedEvaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "FIRST_SECONDS", 0.05)
    executor = scripted(named, workers=0)
    began = time.monotonic()
    with pytest.raises(ExecutorError, match="no worker was ready within"):
        all_results(executor, tasks(named, 1))
    assert time.monotonic() - began < 10


def test_idle_workers_that_die_are_counted_and_cost_nothing(named: NamedEvaluator) -> None:
    executor, wanted = scripted(named), tasks(named, 6)
    with Dispatch(executor, dict, lambda task: {}, Progress(quiet=True)) as workers:
        first = [r for several in workers.results(wanted[:3], Claims()) for r in several]
        for worker, events in list(executor.alive.items()):
            events.append(WorkerEvent(worker, "gone", reason="power cut"))
        second = [r for several in workers.results(wanted[3:], Claims()) for r in several]
    assert [len(first), len(second)] == [3, 3]
    assert workers.lost["gone"] >= 1
