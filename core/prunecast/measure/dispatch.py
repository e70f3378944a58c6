"""Dispatch: tasks go to the workers of an executor, and results come back, whatever happens to the workers.

A worker that ends, takes far longer than others took, or answers nonsense is lost, and what it was at is given to
another one. A task over which ``MOST_LOSSES`` workers were lost has failed: it would take all of them. Nothing is done
twice that has been answered, and every loss is told in one line and counted.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, ValidationError

import prunecast.errors
from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import EvaluationError, ExecutorError, PrunecastError
from prunecast.measure.engine import Engine
from prunecast.measure.setup import Setup
from prunecast.measure.worker import Changes, Task, Worker, job_of
from prunecast.plugins.executor import Executor, Plain, WorkerEvent
from prunecast.plugins.guard import checked_measurements
from prunecast.plugins.interfaces import Measurement
from prunecast.progress import Progress
from prunecast.text import counted

LOCAL = "local"
"""Name of the executor that has no workers but the process of the run."""

MOST_LOSSES = 2
"""Workers lost over one task after which it is not given to another one."""

MOST_LOSSES_IN_A_ROW = 8
"""Workers lost with no answer in between after which a run ends."""

LEAST_SECONDS = 60.0
"""Shortest time after which a worker counts as hanging."""

TIMES_LONGEST = 10
"""A worker hangs if it is at a task for so many times the longest time that such a task has taken."""

FIRST_SECONDS = 3600.0
"""Time after which a worker counts as hanging at the first task of its kind, or the first workers at their start."""

POLL_SECONDS = 1.0
"""Longest time that answers are waited for at once."""

LOOKS = 60
"""Looks at the time of all workers within ``LEAST_SECONDS``: of a thousand, a look takes as long as an answer."""

More = Callable[[], Sequence[Task]]
"""Gives tasks that are to be done, too."""

Claim = Callable[[Sequence[Task]], Sequence[bool]]
"""Says of tasks that are about to be done whether they still are to be."""


@dataclass(frozen=True)
class Result:
    """What became of a task.

    Attributes:
        task: the task.
        failed: reason why it cannot be done; empty if it has been.
        losses: number of workers lost over it.
        measurements, changes: its numbers.
        seconds: time that it took.
        device, versions: what it was done with.
    """

    task: Task
    failed: str = ""
    losses: int = 0
    measurements: tuple[Measurement, ...] = ()
    changes: Changes = field(default_factory=dict)
    seconds: float = 0.0
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)


class Dispatch:
    """The workers of a run. As a context manager it ends them with the block.

    Args:
        executor: has the workers.
        job: makes the job when the first task is to be done, and only then.
        here: does a task in this process.
        progress: where losses are told.
    """

    def __init__(
        self,
        executor: Executor[Any],
        job: Callable[[], Plain],
        here: Callable[[Plain], Plain],
        progress: Progress,
    ) -> None:
        self._executor, self._job, self._here, self._progress = executor, job, here, progress
        self._is_started = False
        self._none_since = math.inf
        self._next_look = -math.inf
        self._out: dict[str, deque[Task]] = {}  # tasks of every worker that is ready; it is at the first of them
        self._began: dict[str, float] = {}
        self._idle: dict[str, None] = {}  # workers without a task
        self._spare: dict[str, None] = {}  # workers at a task that take one more
        self._longest: dict[tuple[str, bool], float] = {}
        self._losses: Counter[tuple[str, Architecture, bool]] = Counter()
        self._in_a_row = 0
        self.lost: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()

    @classmethod
    def of(cls, setup: Setup, engine: Engine, progress: Progress, executor: str | None = None) -> Self:
        """The workers of a set-up.

        Args:
            setup: what is measured under.
            engine: measures in this process.
            progress: where losses are told.
            executor: name of the executor, as :meth:`prunecast.spec.model.Spec.executed_by` takes it.

        Raises:
            PluginError: there is no such executor.
        """
        chosen = setup.spec.executed_by(executor).instance(setup.host)
        return cls(chosen, partial(job_of, setup), Worker(setup, engine).do, progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_started:
            self._executor.close()

    def to_json(self, executor: str) -> dict[str, Any]:
        """What the workers did: tasks answered by each, and workers lost by how (gone, hung, nonsense).

        Args:
            executor: name of the executor.
        """
        return {"executor": executor, "answered": dict(sorted(self.answered.items())), "lost": dict(self.lost)}

    @property
    def status(self) -> str:
        """Number of workers, and of those that were lost; empty for the process of the run alone."""
        lost = sum(self.lost.values())
        several = f"{counted(self.workers, 'worker')}{f', {lost} lost' if lost else ''}"
        return several if lost or self.workers > 1 else ""

    @property
    def workers(self) -> int:
        """Number of workers that are ready or at work."""
        return len(self._out)

    def results(self, tasks: Sequence[Task], claim: Claim, more: More | None = None) -> Iterator[list[Result]]:
        """Results of tasks, as many at a time as have come in, in any order.

        Args:
            tasks: in an order in which neighbours share work.
            claim: asked about tasks just before they are sent; those that it denies have no result.
            more: asked for more tasks after the results that it could depend on have been taken. As that may take
                seconds, workers that take several tasks have one more in hand meanwhile.

        Raises:
            ExecutorError: workers cannot be had, refuse the job, or are lost one after another.
            PrunecastError: a worker has found what concerns all tasks, such as a missing file.
        """
        rest = _Rest(tasks)
        if tasks and not self._is_started:
            self._is_started = True
            self._executor.start(self._job(), self._here)
        while True:
            self._send(self._idle, rest, claim)
            if more is not None:
                self._send(self._spare, rest, claim)
            if len(self._idle) == self.workers and not rest:
                return
            events = self._executor.events(POLL_SECONDS)
            results = [result for event in events for result in self._after(event, rest)]
            results += self._overdue(rest)
            if results:
                yield results
                rest.add(more() if more is not None else ())
            self._check_start()

    def _send(self, workers: dict[str, None], rest: "_Rest", claim: Claim) -> None:
        """Give each of these workers one more task, as long as there are any."""
        while workers and rest:
            given = [(worker, task) for worker in workers if (task := rest.take(worker)) is not None]
            # What a lost worker had has been claimed, and still is.
            granted = iter(claim([task for _, task in given if task.key not in rest.claimed]))
            for worker, task in given:
                if task.key in rest.claimed or next(granted):
                    rest.claimed.add(task.key)
                    self._began.setdefault(worker, time.monotonic())
                    self._out[worker].append(task)
                    self._sort(worker)
                    self._executor.send(worker, task.to_plain())

    def _sort(self, worker: str) -> None:
        """Note whether a worker is idle, or takes one more task."""
        self._idle.pop(worker, None)
        self._spare.pop(worker, None)
        tasks = self._out.get(worker)
        if tasks is None:
            return
        if not tasks:
            self._idle[worker] = None
        elif len(tasks) < self._executor.tasks_at_once:
            self._spare[worker] = None

    def _after(self, event: WorkerEvent, rest: "_Rest") -> list[Result]:
        """Results that an event brings."""
        worker = event.worker
        if event.what == "ready":
            self._out[worker] = deque()
            self._sort(worker)
            return []
        if event.what == "refused":
            raise ExecutorError(f"worker {worker} cannot work on this run: {event.reason}")
        if event.what == "gone":
            return self._lose(worker, "gone", event.reason, rest)
        if not self._out.get(worker):
            return []
        if "error" in event.answer:
            raise _error_of(event.answer)
        task, began = self._out[worker][0], self._began.pop(worker)
        try:
            result = _result_of(task, event.answer)
        except (EvaluationError, ValueError, KeyError) as error:
            self._executor.stop(worker)
            return self._lose(worker, "nonsense", f"it answered nonsense ({_said(error)})", rest)
        self._out[worker].popleft()
        self._sort(worker)
        if self._out[worker]:
            self._began[worker] = time.monotonic()
        kind = task.named.setting.key, bool(task.changes)
        self._longest[kind] = max(self._longest.get(kind, 0.0), time.monotonic() - began)
        self._in_a_row = 0
        self.answered[worker] += 1
        return [result]

    def _overdue(self, rest: "_Rest") -> list[Result]:
        """Stop the workers that hang."""
        now = time.monotonic()
        results: list[Result] = []
        if now < self._next_look:
            return results
        self._next_look = now + LEAST_SECONDS / LOOKS
        for worker, began in list(self._began.items()):
            task = self._out[worker][0]
            longest = self._longest.get((task.named.setting.key, bool(task.changes)))
            limit = FIRST_SECONDS if longest is None else max(LEAST_SECONDS, TIMES_LONGEST * longest)
            if now - began > limit:
                self._executor.stop(worker)
                results += self._lose(worker, "hung", f"no answer for {now - began:.0f} s", rest)
        return results

    def _lose(self, worker: str, how: str, reason: str, rest: "_Rest") -> list[Result]:
        """Note that a worker is lost; the task that it was at is done again, or has failed."""
        had = self._out.pop(worker, deque())
        task = had.popleft() if had else None
        self._began.pop(worker, None)
        self._sort(worker)
        rest.forget(worker)
        for waiting in had:
            rest.put_back(waiting)
        self.lost[how] += 1
        self._in_a_row += 1
        if self._in_a_row > MOST_LOSSES_IN_A_ROW + self.workers:
            raise ExecutorError(
                f"{self._in_a_row} workers were lost with no answer in between, the last one: {reason}; run again "
                "without an executor to see what they fail at"
            )
        if task is None:
            self._progress.say(f"worker {worker} is lost: {reason}")
            return []
        self._losses[task.key] += 1
        at = f"worker {worker} is lost at {task.architecture}: {reason}"
        if self._losses[task.key] < MOST_LOSSES:
            self._progress.say(f"{at}; another one does it")
            rest.put_back(task)
            return []
        self._progress.say(f"{at}; {counted(MOST_LOSSES, 'worker')} were lost over it, it is left out")
        return [
            Result(task, f"{counted(MOST_LOSSES, 'worker')} were lost over it, the last one: {reason}", MOST_LOSSES)
        ]

    def _check_start(self) -> None:
        if self.workers:
            self._none_since = math.inf
            return
        self._none_since = min(self._none_since, time.monotonic())
        if time.monotonic() - self._none_since > FIRST_SECONDS:
            raise ExecutorError(f"no worker was ready within {FIRST_SECONDS:.0f} s: look at the machines they start on")


def _result_of(task: Task, answer: Plain) -> Result:
    """The result that an answer holds.

    Raises:
        EvaluationError, KeyError, ValueError: the answer is no answer to this task.
    """
    if "failed" in answer:
        return Result(task, str(answer["failed"]))
    read = _Answer.model_validate(answer)
    result = Result(task, seconds=read.seconds, device=read.device, versions=read.versions)
    if task.changes:
        changes = {(layer, Layer(*kept)): (first, second) for layer, *kept, first, second in read.changes}
        if changes.keys() != set(task.changes):
            raise ValueError("changes of other layers")
        return replace(result, changes=changes)
    by_name = {metric.name: metric for metric in task.named.metrics}
    found = [Measurement(by_name[name], value, error, count) for name, value, error, count in read.measurements]
    return replace(result, measurements=tuple(checked_measurements(task.named.owner, found, task.named.metrics)))


class _Answer(BaseModel):
    """The form of an answer with numbers."""

    model_config = ConfigDict(allow_inf_nan=False)

    seconds: Annotated[StrictFloat, Field(ge=0)]
    device: StrictStr
    versions: dict[StrictStr, StrictStr]
    measurements: list[tuple[StrictStr, StrictFloat, StrictFloat | None, StrictInt]] = []
    changes: list[tuple[StrictInt, StrictInt, StrictInt, StrictInt, StrictFloat, StrictFloat]] = []


def _said(error: Exception) -> str:
    """What is wrong with an answer, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{error} is no metric of it" if isinstance(error, KeyError) else str(error)


def _error_of(answer: Plain) -> PrunecastError:
    """An error of a worker that concerns all tasks, of its class if a message alone makes one."""
    found = getattr(prunecast.errors, str(answer.get("class")), ExecutorError)
    plain = isinstance(found, type) and issubclass(found, PrunecastError) and "__init__" not in vars(found)
    return (found if plain else ExecutorError)(str(answer["error"]))


class _Rest:
    """Tasks that are still to be done. Every worker gets neighbours one after another, for as long as there are any.

    Args:
        tasks: in an order in which neighbours share work.

    Attributes:
        claimed: keys of the tasks that have been claimed.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.claimed: set[tuple[str, Architecture, bool]] = set()
        self._runs: dict[str | None, deque[Task]] = {None: deque(tasks)}
        self._again: deque[Task] = deque()
        self._count = len(tasks)

    def __len__(self) -> int:
        return self._count

    def add(self, tasks: Sequence[Task]) -> None:
        """Append tasks that no worker has yet."""
        self._runs[None].extend(tasks)
        self._count += len(tasks)

    def take(self, worker: str) -> Task | None:
        """The next task for a worker."""
        if self._again:
            self._count -= 1
            return self._again.popleft()
        if not self._runs.get(worker):
            self._runs[worker] = self._half()
        if not (own := self._runs[worker]):
            return None
        self._count -= 1
        return own.popleft()

    def put_back(self, task: Task) -> None:
        """Give a task to whoever takes one next."""
        self._again.append(task)
        self._count += 1

    def forget(self, worker: str) -> None:
        """Leave the tasks of a worker that is gone to others."""
        if left := self._runs.pop(worker, None):
            self._again.extend(left)

    def _half(self) -> deque[Task]:
        """The second half of the longest run of tasks, or all of those that no worker has."""
        owner, longest = max(self._runs.items(), key=lambda run: len(run[1]))
        if owner is None:
            self._runs[None] = deque()
            return longest
        count = len(longest) - len(longest) // 2 if len(longest) > 1 else len(longest)
        return deque(reversed([longest.pop() for _ in range(count)]))
