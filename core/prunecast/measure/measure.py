"""Measuring for a run: a number comes from the registry if it has it, else from the model, and is recorded at once."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import Architecture
from prunecast.errors import EvaluationError
from prunecast.measure.dispatch import Dispatch, Result
from prunecast.measure.engine import Engine
from prunecast.measure.setup import NamedEvaluator, Setup, metrics_of
from prunecast.measure.stream import Found, Propose, Stream, Wanted
from prunecast.measure.worker import Task
from prunecast.plugins.events import ArchitectureMeasured
from prunecast.plugins.listeners import Listeners
from prunecast.problem.objective import Metrics
from prunecast.progress import Advance, Progress
from prunecast.registry import Evaluation, Leases, Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.measure.engine import ModelOf

POLL_SECONDS = 0.5
"""Seconds between two reads of the registry while another process measures what is wanted."""

MOST_ATTEMPTS = 2
"""Failures after which an architecture is not tried again under the same setting."""


class Measuring:
    """Measures architectures for one run.

    Args:
        setup: model, pruner and evaluators of the numbers.
        dispatch: gives workers the evaluations that the registry lacks.
        engine: measures models of other weights in this process.
        registry: registry that numbers are read from and recorded in.
        run_id: the run.
        progress: where progress is shown.
        listeners: plugins that follow the run.

    Attributes:
        measured: number of evaluations made by this object.
        cached: number of evaluations found in the registry instead.
    """

    def __init__(
        self,
        setup: Setup,
        dispatch: Dispatch,
        engine: Engine,
        registry: Registry,
        run_id: int,
        progress: Progress,
        listeners: Listeners,
    ) -> None:
        self._setup, self._dispatch, self._engine = setup, dispatch, engine
        self._registry, self._run_id = registry, run_id
        self._progress, self._listeners = progress, listeners
        self._counted: set[tuple[str, Architecture]] = set()
        self._has_waited = False
        self.measured = 0
        self.cached = 0

    def measure(
        self, stage: str, architectures: Sequence[Architecture], evaluators: Iterable[NamedEvaluator]
    ) -> dict[Architecture, Metrics]:
        """All metrics of the architectures that can be measured, both in the given order.

        Every evaluation is one registry transaction: a process that dies loses the evaluation in flight and nothing
        else. An evaluation that another process is making is left for the end and awaited. An architecture that cannot
        be measured is reported, noted in the registry with the reason, left out of the result, and after
        ``MOST_ATTEMPTS`` runs not tried again.
        """
        evaluators = list(evaluators)
        metrics: dict[Architecture, Metrics] = {architecture: {} for architecture in architectures}
        # Neighbours in this order share most first layers, whose activations are then reused.
        ordered = sorted(metrics, key=lambda architecture: architecture.layers)
        wanted = [(architecture, named) for architecture in ordered for named in evaluators]
        missing = self._from_registry(stage, wanted, metrics)
        with self._progress.bar(stage, len(missing), "eval") as advance, Leases(self._registry) as leases:
            while missing:
                left = self._measure_free(stage, missing, metrics, leases, advance)
                if left == missing:
                    self._await_others(len(left))
                missing = self._from_registry(stage, left, metrics)
                advance(len(left) - len(missing))
        names = [metric.name for metric in metrics_of(evaluators)]
        return {a: {name: found[name] for name in names} for a, found in metrics.items() if set(names) <= set(found)}

    def measure_as_proposed(self, propose: Propose, evaluators: Sequence[NamedEvaluator]) -> Found:
        """All metrics of architectures that are proposed while others are still being measured.

        Numbers of the registry count as measured in the order in which they were recorded, so that a run that is
        continued proposes what it proposed before.

        Args:
            propose: asked at first, and after every architecture that has been measured.
            evaluators: the evaluators.

        Returns:
            Metrics of all architectures that could be measured, in the order in which they were completed.
        """
        stream = Stream(propose, evaluators)

        def more() -> list[Task]:
            tasks: list[Task] = []
            while (proposed := stream.proposed()) is not None or stream.arrive():
                if proposed is not None:
                    missing = self._from_registry(stream.stages[proposed[0]], stream.wanted(proposed), stream.metrics)
                    stream.sort_in(proposed, missing, self._order(proposed, evaluators))
                    tasks += [Task(named, architecture) for architecture, named in missing]
            return tasks

        with Leases(self._registry) as leases:
            extra: list[Task] = []
            for results in self._dispatch.results(more(), partial(_claimed, leases), partial(_emptied, extra)):
                for stage, of_stage in groupby(results, lambda result: stream.stages[result.task.architecture]):
                    self._keep(stage, list(of_stage), stream.metrics)
                for result in results:
                    stream.over(result.task.architecture, bool(result.failed))
                    extra += more()
        for architecture in stream.left:  # another process was measuring them
            found = self.measure(stream.stages[architecture], [architecture], evaluators)
            stream.metrics.update(found)
            stream.over(architecture, not found)
        return stream.found

    def _order(
        self, architectures: Sequence[Architecture], evaluators: Sequence[NamedEvaluator]
    ) -> dict[Architecture, int]:
        """Numbers that grow with the time at which the last evaluation of each architecture was recorded."""
        order: dict[Architecture, int] = {}
        for named in evaluators:
            for architecture, number in self._registry.evaluation_ids(named.setting, architectures).items():
                order[architecture] = max(order.get(architecture, 0), number)
        return order

    def measure_model(
        self,
        stage: str,
        architecture: Architecture,
        make: "Callable[[], PreTrainedModel]",
        evaluators: Sequence[NamedEvaluator],
    ) -> Metrics:
        """All metrics of a model of ``architecture`` that has other weights than the elastic model.

        Args:
            stage: the stage of the run.
            architecture: architecture of the model.
            make: makes the model; called only if a number is missing.
            evaluators: the evaluators, with settings that say how the weights were made.
        """
        metrics: dict[Architecture, Metrics] = {architecture: {}}
        missing = self._from_registry(stage, [(architecture, named) for named in evaluators], metrics)
        if missing:
            model = make()
            with self._progress.bar(stage, len(missing), "eval") as advance:
                for _, named in missing:
                    metrics[architecture].update(self._measured_here(stage, architecture, named, lambda _: model))
                    advance(1)
        return metrics[architecture]

    def _from_registry(
        self, stage: str, wanted: Sequence[Wanted], metrics: Mapping[Architecture, Metrics]
    ) -> list[Wanted]:
        """Fill in the metrics that the registry has; returns the others in the order given, without those given up."""
        known: set[tuple[Architecture, int]] = set()
        for named in {id(named): named for _, named in wanted}.values():
            setting = named.setting
            architectures = [architecture for architecture, other in wanted if other is named]
            found = self._registry.lookup(setting, architectures)
            self._registry.note_reuse(self._run_id, stage, setting, list(found))
            self._count_cached(named, found)
            for architecture, numbers in found.items():
                values = {name: number.value for name, number in numbers.items()}
                metrics[architecture].update(values)
                self._tell(stage, architecture, named, values, None)
            failures = self._registry.failures(setting, architectures)
            given_up = [a for a, failure in failures.items() if failure.attempts >= MOST_ATTEMPTS]
            known |= {(architecture, id(named)) for architecture in (*found, *given_up)}
        return [(a, named) for a, named in wanted if (a, id(named)) not in known]

    def _measure_free(
        self,
        stage: str,
        wanted: Sequence[Wanted],
        metrics: Mapping[Architecture, Metrics],
        leases: Leases,
        advance: Advance,
    ) -> list[Wanted]:
        """Let workers measure what no other process is measuring; returns the rest."""
        tasks = {Task(named, architecture).key: (architecture, named) for architecture, named in wanted}
        done = set()
        self._engine.expect(wanted)
        for results in self._dispatch.results([Task(n, a) for a, n in wanted], partial(_claimed, leases)):
            self._keep(stage, results, metrics)
            done |= {result.task.key for result in results}
            advance(len(results), self._dispatch.status)
        return [pair for key, pair in tasks.items() if key not in done]

    def _await_others(self, count: int) -> None:
        if not self._has_waited:
            self._progress.say(f"waiting for another process that is measuring {count} of these evaluations")
        self._has_waited = True
        time.sleep(POLL_SECONDS)

    def _count_cached(self, named: NamedEvaluator, found: Iterable[Architecture]) -> None:
        new = {(named.setting.key, architecture) for architecture in found} - self._counted
        self._counted |= new
        self.cached += len(new)

    def _keep(self, stage: str, results: Sequence[Result], metrics: Mapping[Architecture, Metrics]) -> None:
        """Record results, and pass them to the listeners."""
        done = [result for result in results if not result.failed]
        self._registry.record_many(self._run_id, stage, [_evaluation_of(result) for result in done])
        self.measured += len(done)
        for result in results:
            architecture, named = result.task.architecture, result.task.named
            if result.failed:
                self._note_failure(architecture, named, result.failed, max(result.losses, 1))
                continue
            self._counted.add((named.setting.key, architecture))
            values = {each.metric.name: each.value for each in result.measurements}
            metrics[architecture].update(values)
            self._tell(stage, architecture, named, values, result.seconds)

    def _note_failure(self, architecture: Architecture, named: NamedEvaluator, reason: str, attempts: int) -> None:
        self._progress.say(f"not measured: {architecture}: {reason}")
        self._registry.record_failure(self._run_id, named.setting, architecture, reason, attempts)

    def _measured_here(
        self, stage: str, architecture: Architecture, named: NamedEvaluator, model_of: "ModelOf"
    ) -> Metrics:
        """Metrics of a model that is in this process; none if it cannot be measured."""
        self._engine.observe(named)  # an evaluator that cannot look at the dense model ends the run
        try:
            measurements, seconds = self._engine.measure(architecture, named, model_of)
        except EvaluationError as error:
            self._note_failure(architecture, named, str(error), 1)
            return {}
        task, device = Task(named, architecture), str(self._setup.device)
        found: dict[Architecture, Metrics] = {architecture: {}}
        self._keep(stage, [Result(task, measurements=tuple(measurements), seconds=seconds, device=device)], found)
        return found[architecture]

    def _tell(
        self, stage: str, architecture: Architecture, named: NamedEvaluator, values: Metrics, seconds: float | None
    ) -> None:
        self._listeners.tell(
            ArchitectureMeasured(
                run=self._run_id,
                stage=stage,
                architecture=str(architecture),
                parameters=int(self._setup.shape.count([architecture])[0]),
                evaluator=named.setting.evaluator.name,
                metrics=values,
                cached=seconds is None,
                seconds=seconds,
            )
        )


def _emptied(tasks: list[Task]) -> list[Task]:
    """All tasks of the list, which is empty afterwards."""
    taken = tasks[:]
    tasks.clear()
    return taken


def _claimed(leases: Leases, tasks: Sequence[Task]) -> list[bool]:
    return leases.take([(task.named.setting, task.architecture) for task in tasks])


def _evaluation_of(result: Result) -> Evaluation:
    task = result.task
    versions = result.versions or None
    return Evaluation(
        task.named.setting, task.architecture, result.measurements, result.seconds, result.device, versions
    )
