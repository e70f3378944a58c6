"""A thousand workers on paper: the run's own dispatch, measuring and registry, with workers that are simulated.

The driver is the real one. Its workers exist in a queue of events on a clock that runs with the driver and jumps over
the time in which the driver waits. So a driver that is too slow shows as workers that wait for it.

Evaluations take 1 to 60 s, lognormal with a mean of 10 s. Every ten minutes, on average, a node of eight workers is
lost for three minutes. Run ``python benchmarks/many_workers.py``, or with the names of tables.
"""

import heapq
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from test_registry_strength import PPL, SETTING, SHAPE

from prunecast.measure import dispatch as dispatching
from prunecast.measure.dispatch import Dispatch
from prunecast.measure.engine import Engine
from prunecast.measure.measure import Measuring
from prunecast.measure.setup import NamedEvaluator
from prunecast.plugins import Architecture, Executor, Plain, PluginOptions, WorkerEvent
from prunecast.plugins.host import PluginHost
from prunecast.plugins.listeners import Listeners
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.registry.recording import versions
from prunecast.spec.model import IN_HAND

WORKERS_OF_A_NODE = 8
SEARCH_SECONDS = 5.0
NODE_LOST_EVERY = 600.0
NODE_BACK_AFTER = 180.0
SIGMA = 0.6
MEAN_SECONDS = 10.0


class Costless:
    """In place of an evaluator: workers that do not exist measure its metric."""

    metrics = (PPL,)


class Conditions:
    """In place of the set-up of a run: all that is asked of it when workers measure."""

    shape = SHAPE


NAMED = NamedEvaluator(cast(Any, Costless()), SETTING)


class Clock:
    """Stands in for the module ``time`` in the dispatch: seconds that have passed, and those that were jumped over."""

    def __init__(self) -> None:
        self._jumped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._jumped

    def jump_to(self, moment: float) -> None:
        self._jumped += max(0.0, moment - self.monotonic())


@dataclass(order=True)
class Planned:
    """An event to come: of a worker or, without one, the loss of a node."""

    at: float
    number: int
    event: WorkerEvent | None = field(compare=False, default=None)


class Simulated(Executor[PluginOptions]):
    """Workers in nodes of eight, whose answers are events on a simulated clock.

    Args:
        clock: the clock.
        workers: their number.
        seconds: draws how long an evaluation takes.
        lost_every: mean time between two losses of a node; none is lost if it is infinite.
        at_once: most answers that a look finds.

    Attributes:
        busy: worker seconds of evaluations that were answered.
        lost: worker seconds of evaluations that were lost.
    """

    options_model = PluginOptions
    tasks_at_once = 2

    def __init__(
        self,
        clock: Clock,
        workers: int,
        seconds: Callable[[], float],
        lost_every: float = np.inf,
        at_once: int = sys.maxsize,
    ) -> None:
        super().__init__(PluginOptions())
        self._clock, self._workers, self._seconds = clock, workers, seconds
        self._lost_every, self._at_once = lost_every, at_once
        self._rng, self._numbers, self._names = np.random.default_rng(1), count(), count(1)
        self._queue: list[Planned] = []
        self._nodes: list[set[str]] = []
        self._node_of: dict[str, set[str]] = {}
        self._began: dict[str, float] = {}
        self._waiting: dict[str, Plain] = {}
        self.busy, self.lost = 0.0, 0.0

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        for _ in range(self._workers // WORKERS_OF_A_NODE):
            self._nodes.append(set())
            for _ in range(WORKERS_OF_A_NODE):
                self._add(self._nodes[-1], 0.0)
        self._plan_loss()

    def _plan(self, at: float, event: WorkerEvent | None) -> None:
        heapq.heappush(self._queue, Planned(at, next(self._numbers), event))

    def _plan_loss(self) -> None:
        if np.isfinite(self._lost_every):
            self._plan(self._clock.monotonic() + float(self._rng.exponential(self._lost_every)), None)

    def _add(self, node: set[str], after: float) -> None:
        name = str(next(self._names))
        node.add(name)
        self._node_of[name] = node
        self._plan(self._clock.monotonic() + after, WorkerEvent(name, "ready"))

    def send(self, worker: str, task: Plain) -> None:
        if worker in self._began:
            self._waiting[worker] = task
        else:
            self._begin(worker, task, self._clock.monotonic())

    def _begin(self, worker: str, task: Plain, at: float) -> None:
        seconds = self._seconds()
        self._began[worker] = at
        # 1 + the first width: any number will do.
        value = 1.0 + float(task["architecture"][0][2])
        answer = {
            "device": "cuda",
            "versions": versions(),
            "seconds": seconds,
            "measurements": [[PPL.name, value, None, 4096]],
        }
        self._plan(at + seconds, WorkerEvent(worker, "answer", answer))

    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        now = self._clock.monotonic()
        first = self._queue[0].at if self._queue else np.inf
        self._clock.jump_to(min(first, now + seconds))
        found: list[WorkerEvent] = []
        while self._queue and len(found) < self._at_once and self._queue[0].at <= self._clock.monotonic():
            planned = heapq.heappop(self._queue)
            event = planned.event
            if event is None:
                found += self._lose_a_node()
            elif event.worker in self._node_of:
                if event.what == "answer":
                    self.busy += float(event.answer["seconds"])
                    del self._began[event.worker]
                    if (task := self._waiting.pop(event.worker, None)) is not None:
                        self._begin(event.worker, task, planned.at)
                found.append(event)
        return found

    def _lose_a_node(self) -> list[WorkerEvent]:
        node = self._nodes[int(self._rng.integers(len(self._nodes)))]
        gone, now = sorted(node), self._clock.monotonic()
        for worker in gone:
            self.lost += now - self._began.pop(worker, now)
            self.stop(worker)
        self._plan_loss()
        return [WorkerEvent(worker, "gone", reason="its node is gone") for worker in gone]

    def stop(self, worker: str) -> None:
        self._waiting.pop(worker, None)
        node = self._node_of.pop(worker)
        node.discard(worker)
        self._add(node, NODE_BACK_AFTER)

    def close(self) -> None:
        self._queue.clear()


@dataclass
class Driver:
    """A run on simulated workers, and what it has cost."""

    measuring: Measuring
    dispatch: Dispatch
    executor: Simulated
    clock: Clock
    registry: Registry

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._results = 0
        self._bytes = self._size()
        self._began = time.perf_counter(), time.process_time(), self.clock.monotonic()

    def _size(self) -> int:
        """Bytes of the registry once its write-ahead log is part of it."""
        self.registry.database.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.registry.path.stat().st_size

    def measure(self, number: int) -> None:
        """Have new random architectures of 30 layers measured."""
        found = self.measuring.measure("pairs", self._drawn(number), [NAMED])
        assert len(found) == number
        self._results += number

    def measure_overlapping(self, per_round: int, rounds: int, share: float) -> None:
        """Have as many measured in overlapping rounds: when a share of a round has come in, so many more are asked for.

        The time of the search is added before each round.
        """
        asked = over = 0

        def propose(found: Mapping[Architecture, Any], failed: Collection[Architecture]) -> Any:
            nonlocal asked, over
            new, left = len(found) - over, rounds * per_round - asked
            if not left or (asked and new < share * per_round):
                return None
            number = min(left, new if asked else per_round)
            over, asked = len(found), asked + number
            self.clock.jump_to(self.clock.monotonic() + SEARCH_SECONDS)
            return "round", self._drawn(number)

        found = self.measuring.measure_as_proposed(propose, [NAMED])
        assert len(found) == rounds * per_round
        self._results += len(found)

    def _drawn(self, number: int) -> list[Architecture]:
        layers = len(SHAPE.dense.layers)
        kept = np.stack(
            [
                np.full((number, layers), 3),
                self._rng.integers(0, 4, (number, layers)),
                self._rng.integers(1, 13, (number, layers)) * 128,
            ],
            -1,
        )
        return Architecture.from_sizes(kept)

    def costs(self) -> tuple[int, float, float, float, float]:
        """Results, then seconds, processor seconds and simulated seconds that they took, and bytes of the registry."""
        wall, processor, simulated = self._began
        return (
            self._results,
            time.perf_counter() - wall,
            time.process_time() - processor,
            self.clock.monotonic() - simulated,
            self._size() - self._bytes,
        )


@contextmanager
def driver(workers: int, seconds: Callable[[], float], **options: Any) -> Iterator[Driver]:
    """A new registry and a run in it, on so many simulated workers."""
    clock, progress = Clock(), Progress(quiet=True)
    dispatching.time = clock  # type: ignore[attr-defined]
    executor = Simulated(clock, workers, seconds, **options)
    with TemporaryDirectory() as folder, Registry.open(Path(folder) / "registry.db") as registry:
        started = registry.start_run("0" * 32, "simulated", "{}", "")
        with Dispatch(executor, dict, lambda task: {}, progress) as dispatch:
            setup = cast(Any, Conditions())
            engine, listeners = Engine(setup, progress), Listeners(PluginHost.discover())
            measuring = Measuring(setup, dispatch, engine, registry, started.id, progress, listeners)
            yield Driver(measuring, dispatch, executor, clock, registry)


def straggling() -> Callable[[], float]:
    """Draws seconds from 1 to 60, lognormal with a mean of ten."""
    rng = np.random.default_rng(2)
    median = MEAN_SECONDS / np.exp(SIGMA**2 / 2)
    return lambda: float(np.clip(median * np.exp(SIGMA * rng.standard_normal()), 1.0, 60.0))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table of Markdown, each row when it is there."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{' ---: |' * len(columns)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


Rows = Iterator[Sequence[object]]


def driver_alone() -> Rows:
    """Evaluations that cost nothing: how many results the driver records."""
    for workers, at_once in ((8, 1), (1000, 1), (1000, 8), (1000, 1000)):
        with driver(workers, lambda: 0.0, at_once=at_once) as run:
            run.measure(3000)
            results, wall, processor, _, size = run.costs()
        share = 1000 / results
        yield workers, at_once, f"{results / wall:.0f}", f"{processor * share:.2f}", f"{size * share:,.0f}"


def utilisation() -> Rows:
    """How busy 1,000 workers are, by the number of architectures in a round."""
    for per_round, rounds in ((8, 10), (64, 10), (1000, 4), (2000, 3), (6000, 1)):
        with driver(1000, straggling(), lost_every=NODE_LOST_EVERY) as run:
            for _ in range(rounds):
                run.clock.jump_to(run.clock.monotonic() + SEARCH_SECONDS)
                run.measure(per_round)
            results, _, processor, simulated, _ = run.costs()
            busy, gone = run.executor.busy / (1000 * simulated), run.dispatch.lost["gone"]
        shares = f"{100 * busy:.1f} %", f"{results / simulated:.1f}", f"{100 * processor / simulated:.1f} %"
        yield f"{per_round:,}", rounds, f"{simulated / rounds:.0f} s", *shares, gone


def overlapping() -> Rows:
    """How busy 1,000 workers are in overlapping rounds of ``per_round: auto``, all of 10 s or some much longer."""
    for refit_after, rounds in ((0.5, 5), (1 / 3, 7), (0.25, 8)):
        per_round = math.ceil(IN_HAND / (1 - refit_after)) * 1000
        for name, seconds in (("10 s", lambda: MEAN_SECONDS), ("1 to 60 s", straggling())):
            with driver(1000, seconds, lost_every=NODE_LOST_EVERY) as run:
                run.measure_overlapping(per_round, rounds, refit_after)
                results, _, processor, simulated, _ = run.costs()
                busy, gone = run.executor.busy / (1000 * simulated), run.dispatch.lost["gone"]
            shares = f"{100 * busy:.1f} %", f"{results / simulated:.1f}", f"{100 * processor / simulated:.1f} %"
            yield f"{refit_after:.2f}", f"{per_round:,}", rounds, name, *shares, gone


def limits() -> Rows:
    """Ever more workers, without stragglers: where the driver is the limit."""
    for workers in (1000, 2000, 4000):
        rng = np.random.default_rng(2)
        seconds = partial(rng.uniform, 0.9 * MEAN_SECONDS, 1.1 * MEAN_SECONDS)
        with driver(workers, seconds) as run:
            run.measure(3 * workers)
            results, _, processor, simulated, _ = run.costs()
            busy = run.executor.busy / (workers * simulated)
        yield (
            f"{workers:,}",
            f"{100 * busy:.1f} %",
            f"{results / simulated:.0f}",
            f"{100 * processor / simulated:.1f} %",
        )


TABLES: dict[str, tuple[str, Sequence[str], Callable[[], Rows]]] = {
    "driver": (
        "Driver alone, evaluations that cost nothing:",
        ("workers", "answers at a look", "results a second", "processor s / 1,000", "bytes / 1,000"),
        driver_alone,
    ),
    "utilisation": (
        f"1,000 workers, {MEAN_SECONDS:.0f} s a measurement, {SEARCH_SECONDS:.0f} s of search a round:",
        ("per_round", "rounds", "a round", "busy", "results a second", "driver's core", "workers lost"),
        utilisation,
    ),
    "overlapping": (
        f"The same, when a share of a round is awaited (refit_after), {SEARCH_SECONDS:.0f} s of search each:",
        (
            "refit_after",
            "per_round",
            "rounds",
            "each takes",
            "busy",
            "results a second",
            "driver's core",
            "workers lost",
        ),
        overlapping,
    ),
    "limits": (
        "Three evaluations of 9 to 11 s a worker, no losses:",
        ("workers", "busy", "results a second", "driver's core"),
        limits,
    ),
}


def main(names: Sequence[str]) -> None:
    """Print the tables."""
    for name in names or TABLES:
        title, columns, rows = TABLES[name]
        table(title, columns, rows())


if __name__ == "__main__":
    main(sys.argv[1:])
