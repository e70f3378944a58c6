"""Measuring: every number comes from the registry if it is there, from the model if not, and is kept at once."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

from prunecast.architecture import Architecture
from prunecast.errors import EvaluationError, PrunecastError
from prunecast.events import ArchitectureMeasured
from prunecast.interfaces import Measurement
from prunecast.pipeline.elastic import build_elastic
from prunecast.pipeline.listeners import Listeners
from prunecast.pipeline.progress import Progress
from prunecast.pipeline.setup import NamedEvaluator, Setup, metrics_of
from prunecast.registry import Registry

if TYPE_CHECKING:
    from prunecast.models.elastic import ElasticModel
    from prunecast.models.reuse import ActivationReuse

Metrics = dict[str, float]

MOST_ATTEMPTS = 2
"""Failures after which an architecture is not tried again under the same setting."""


class Measuring:
    """Measures architectures for one run; loads the model at the first number that is not in the registry.

    Attributes:
        measured: evaluations made by this object.
        cached: evaluations found in the registry instead.
    """

    def __init__(self, setup: Setup, registry: Registry, run_id: int, progress: Progress, listeners: Listeners) -> None:
        self._setup, self._registry, self._run_id, self._progress = setup, registry, run_id, progress
        self._listeners = listeners
        self._counted: set[tuple[str, Architecture]] = set()
        self._observed: set[str] = set()
        self.measured = 0
        self.cached = 0

    @cached_property
    def elastic(self) -> "ElasticModel":
        """The elastic model, made when it is first needed."""
        return build_elastic(self._setup, self._progress)

    @cached_property
    def _reuse(self) -> "ActivationReuse":
        from prunecast.models.reuse import ActivationReuse

        return ActivationReuse(self.elastic)

    def measure(
        self, stage: str, architectures: Sequence[Architecture], evaluators: Iterable[NamedEvaluator]
    ) -> dict[Architecture, Metrics]:
        """All metrics of the architectures that can be measured, both in the given order.

        One registry transaction an evaluation: a process that dies loses the evaluation in flight and nothing else. An
        architecture that cannot be measured is said, noted in the registry with the reason, left out of the result,
        and after ``MOST_ATTEMPTS`` runs not tried again.
        """
        evaluators = list(evaluators)
        metrics: dict[Architecture, Metrics] = {architecture: {} for architecture in architectures}
        missing = self._from_registry(stage, metrics, evaluators)
        with self._progress.bar(stage, sum(map(len, missing.values())), "eval") as advance:
            # Neighbours in this order share most first layers, whose activations are then reused.
            for architecture in sorted(missing, key=lambda architecture: architecture.layers):
                for named in missing[architecture]:
                    metrics[architecture] |= self._evaluate(stage, architecture, named)
                    advance(1)
        names = [metric.name for metric in metrics_of(evaluators)]
        return {a: {name: found[name] for name in names} for a, found in metrics.items() if set(names) <= set(found)}

    def _from_registry(
        self, stage: str, metrics: dict[Architecture, Metrics], evaluators: Sequence[NamedEvaluator]
    ) -> Mapping[Architecture, Sequence[NamedEvaluator]]:
        """Fill in what is known; returns the evaluators still missing, by architecture: each is applied only once."""
        missing: dict[Architecture, list[NamedEvaluator]] = {}
        for named in evaluators:
            found = self._registry.lookup(named.setting, list(metrics))
            self._registry.note_reuse(self._run_id, stage, named.setting, list(found))
            self._count_cached(named, found)
            failures = self._registry.failures(named.setting, list(metrics))
            given_up = {a for a, failure in failures.items() if failure.attempts >= MOST_ATTEMPTS}
            for architecture in metrics:
                if architecture in found:
                    values = {name: known.value for name, known in found[architecture].items()}
                    metrics[architecture] |= values
                    self._tell(stage, architecture, named, values, None)
                elif architecture not in given_up:
                    missing.setdefault(architecture, []).append(named)
        return missing

    def _count_cached(self, named: NamedEvaluator, found: Iterable[Architecture]) -> None:
        new = {(named.setting.key, architecture) for architecture in found} - self._counted
        self._counted |= new
        self.cached += len(new)

    def _evaluate(self, stage: str, architecture: Architecture, named: NamedEvaluator) -> Metrics:
        import torch

        elastic = self.elastic
        with torch.inference_mode():
            if named.setting.key not in self._observed:
                elastic.apply(self._setup.shape.dense)
                named.evaluator.observe_dense(elastic.model)
                self._observed.add(named.setting.key)
            elastic.apply(architecture)
            start = time.perf_counter()
            try:
                measurements = self._measurements(named)
            except EvaluationError as error:
                self._progress.say(f"not measured: {architecture}: {error}")
                self._registry.record_failure(self._run_id, named.setting, architecture, str(error))
                return {}
        seconds = time.perf_counter() - start
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

    def _measurements(self, named: NamedEvaluator) -> list[Measurement]:
        """What the evaluator says of the model as it stands. Raises EvaluationError for whatever it does wrong."""
        evaluator = named.evaluator
        try:
            with self._reuse.active() if evaluator.same_batches else nullcontext():
                measurements = self._within_memory(named)
        except PrunecastError:
            raise
        except Exception as error:
            raise EvaluationError(f"{named.setting.evaluator.name}: {type(error).__name__}: {error}") from error
        if [measurement.metric for measurement in measurements] != list(named.metrics):
            raise EvaluationError(f"{named.setting.evaluator.name} measured other metrics than it promised")
        for measurement in measurements:
            if not math.isfinite(measurement.value):
                raise EvaluationError(f"{measurement.metric.name} is {measurement.value}, not a finite number")
        return measurements

    def _within_memory(self, named: NamedEvaluator) -> list[Measurement]:
        """Evaluate, with half the batch each time the device runs out of memory, for as long as there is a batch."""
        import torch

        evaluator = named.evaluator
        while True:
            try:
                return evaluator.evaluate(self.elastic.model)
            except torch.OutOfMemoryError:
                batch = getattr(evaluator.options, "batch", 1)
                if batch <= 1:
                    raise
                evaluator.options = evaluator.options.model_copy(update={"batch": batch // 2})
                self._progress.say(f"{named.setting.evaluator.name}: out of memory, going on with batch {batch // 2}")
