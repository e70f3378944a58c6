"""Measuring for a run: a number comes from the registry if it is there, else from the model, and is kept at once."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import Architecture
from prunecast.errors import EvaluationError
from prunecast.measure.engine import Engine
from prunecast.measure.setup import NamedEvaluator, Setup, metrics_of
from prunecast.plugins.events import ArchitectureMeasured
from prunecast.plugins.listeners import Listeners
from prunecast.problem.objective import Metrics
from prunecast.progress import Progress
from prunecast.registry import Registry, take_lease

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.measure.engine import ModelOf

Wanted = tuple[Architecture, NamedEvaluator]
"""An evaluation that is wanted."""

POLL_SECONDS = 0.5
"""Time between two looks at the registry while another process measures what is wanted."""

MOST_ATTEMPTS = 2
"""Failures after which an architecture is not tried again under the same setting."""


class Measuring:
    """Measures architectures for one run.

    Args:
        setup: what the numbers are measured under.
        engine: measures what the registry lacks.
        registry: where numbers are found and kept.
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
        engine: Engine,
        registry: Registry,
        run_id: int,
        progress: Progress,
        listeners: Listeners,
    ) -> None:
        self._setup, self._engine, self._registry, self._run_id = setup, engine, registry, run_id
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
        self._fill(stage, self._from_registry(stage, wanted, metrics), metrics, None)
        names = [metric.name for metric in metrics_of(evaluators)]
        return {a: {name: found[name] for name in names} for a, found in metrics.items() if set(names) <= set(found)}

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
            architecture: what the model keeps.
            make: makes the model; called only if a number is missing.
            evaluators: what measures, under settings that say how the weights came about.
        """
        metrics: dict[Architecture, Metrics] = {architecture: {}}
        missing = self._from_registry(stage, [(architecture, named) for named in evaluators], metrics)
        if missing:
            model = make()
            self._fill(stage, missing, metrics, lambda _: model)
        return metrics[architecture]

    def _fill(
        self, stage: str, missing: list[Wanted], metrics: Mapping[Architecture, Metrics], model_of: "ModelOf | None"
    ) -> None:
        """Measure what is missing, or wait for the process that is measuring it."""
        with self._progress.bar(stage, len(missing), "eval") as advance:
            while missing:
                left = self._measure_free(stage, missing, metrics, model_of, advance)
                if left == missing:
                    self._await_others(len(left))
                missing = self._from_registry(stage, left, metrics)
                advance(len(left) - len(missing))

    def _from_registry(
        self, stage: str, wanted: Sequence[Wanted], metrics: Mapping[Architecture, Metrics]
    ) -> list[Wanted]:
        """Fill in what is known; returns what is still missing and worth a try, in the order given."""
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
        model_of: "ModelOf | None",
        advance: Callable[[int], None],
    ) -> list[Wanted]:
        """Measure what no other process is measuring; returns the rest."""
        left: list[Wanted] = []
        self._engine.expect(wanted)
        for architecture, named in wanted:
            lease = take_lease(self._registry, named.setting, architecture)
            if lease is None:
                left.append((architecture, named))
                continue
            with lease:
                metrics[architecture].update(self._evaluate(stage, architecture, named, model_of))
            advance(1)
        return left

    def _await_others(self, count: int) -> None:
        if not self._has_waited:
            self._progress.say(f"waiting for another process that is at {count} of these evaluations")
        self._has_waited = True
        time.sleep(POLL_SECONDS)

    def _count_cached(self, named: NamedEvaluator, found: Iterable[Architecture]) -> None:
        new = {(named.setting.key, architecture) for architecture in found} - self._counted
        self._counted |= new
        self.cached += len(new)

    def _evaluate(
        self, stage: str, architecture: Architecture, named: NamedEvaluator, model_of: "ModelOf | None"
    ) -> Metrics:
        self._engine.observe(named)  # an evaluator that cannot look at the dense model ends the run
        try:
            measurements, seconds = self._engine.measure(architecture, named, model_of)
        except EvaluationError as error:
            self._progress.say(f"not measured: {architecture}: {error}")
            self._registry.record_failure(self._run_id, named.setting, architecture, str(error))
            return {}
        device = str(self._setup.device)
        self._registry.record(self._run_id, stage, named.setting, architecture, measurements, seconds, device)
        self._counted.add((named.setting.key, architecture))
        self.measured += 1
        values = {measurement.metric.name: measurement.value for measurement in measurements}
        self._tell(stage, architecture, named, values, seconds)
        return values

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
