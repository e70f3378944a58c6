"""Measuring: every number comes from the registry if it is there, from the model if not, and is kept at once."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import EvaluationError
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import NamedEvaluator, Setup, metrics_of
from prunecast.models.cpu.allocation import is_out_of_memory
from prunecast.models.sensitivity import Loss
from prunecast.plugins.events import ArchitectureMeasured
from prunecast.plugins.guard import checked_measurements
from prunecast.plugins.interfaces import Measurement
from prunecast.plugins.isolation import isolated
from prunecast.plugins.listeners import Listeners
from prunecast.problem.objective import Metrics
from prunecast.progress import Progress
from prunecast.registry import Registry, take_lease

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.models.activation_reuse import ActivationReuse
    from prunecast.models.elastic import ElasticModel
    from prunecast.models.sensitivity import Changes

    ModelOf = Callable[[Architecture], PreTrainedModel]


Answer = TypeVar("Answer")

Wanted = tuple[Architecture, NamedEvaluator]
"""An evaluation that is wanted."""

POLL_SECONDS = 0.5
"""How often it is looked whether another process has finished what is awaited."""

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
        self._has_waited = False
        self.measured = 0
        self.cached = 0

    @cached_property
    def elastic(self) -> "ElasticModel":
        """The elastic model, made when it is first needed."""
        return build_elastic(self._setup, self._progress)

    @cached_property
    def _reuse(self) -> "ActivationReuse":
        from prunecast.models.activation_reuse import ActivationReuse

        return ActivationReuse(self.elastic)

    def measure(
        self, stage: str, architectures: Sequence[Architecture], evaluators: Iterable[NamedEvaluator]
    ) -> dict[Architecture, Metrics]:
        """All metrics of the architectures that can be measured, both in the given order.

        One registry transaction an evaluation: a process that dies loses the evaluation in flight and nothing else. An
        evaluation another process is at is left for the end and awaited. An architecture that cannot be measured is
        said, noted in the registry with the reason, left out of the result, and after ``MOST_ATTEMPTS`` runs not tried
        again.
        """
        evaluators = list(evaluators)
        metrics: dict[Architecture, Metrics] = {architecture: {} for architecture in architectures}
        # Neighbours in this order share most first layers, whose activations are then reused.
        ordered = sorted(metrics, key=lambda architecture: architecture.layers)
        wanted = [(architecture, named) for architecture in ordered for named in evaluators]
        self._fill(stage, self._from_registry(stage, wanted, metrics), metrics, self._applied)
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
            make: the model; called only if a number is missing.
            evaluators: what measures, under settings that say how the weights came about.
        """
        metrics: dict[Architecture, Metrics] = {architecture: {}}
        missing = self._from_registry(stage, [(architecture, named) for named in evaluators], metrics)
        if missing:
            model = make()
            self._fill(stage, missing, metrics, lambda _: model)
        return metrics[architecture]

    def steps(self, centre: Architecture, steps: Collection[tuple[int, Layer]]) -> "list[Changes]":
        """What steps around an architecture change, for each evaluator of the search, on the scale predictors learn.

        Found in the registry, or estimated (:func:`prunecast.models.sensitivity.changes_of`) and kept there.

        Args:
            centre: the architecture.
            steps: a layer, and what it would keep instead.
        """
        evaluators = self._setup.evaluators
        found = []
        with self._progress.bar("neighbours", len(evaluators), "eval") as advance:
            for named in evaluators:
                found.append(self._steps(named, centre, steps))
                advance(1)
        return found

    def _steps(self, named: NamedEvaluator, centre: Architecture, steps: Collection[tuple[int, Layer]]) -> "Changes":
        from prunecast.models.sensitivity import VERSION

        known = self._registry.steps(named.setting, centre, VERSION)
        missing = sorted(set(steps) - known.keys())
        if missing:
            start = time.perf_counter()
            found = self._estimate(named, centre, missing)
            known |= found
            seconds = time.perf_counter() - start
            self._registry.record_steps(self._run_id, named.setting, centre, VERSION, known, seconds)
        return known

    def _estimate(self, named: NamedEvaluator, centre: Architecture, steps: Sequence[tuple[int, Layer]]) -> "Changes":
        from prunecast.models.sensitivity import changes_of

        self._observe(named)
        self.elastic.apply(centre)
        # Runs of every seed share what is found, so none of their seeds decides it.
        content = [int(key, base=16) for key in (named.setting.key, centre.key)]

        def losses(model: "PreTrainedModel") -> "Iterable[Loss]":
            return named.evaluator.losses(model, np.random.default_rng(content))

        with isolated(named.owner, "losses"):
            return self._within_memory(named, lambda: changes_of(self.elastic, losses, steps))

    def _fill(
        self, stage: str, missing: list[Wanted], metrics: Mapping[Architecture, Metrics], model_of: "ModelOf"
    ) -> None:
        """Measure what is missing, or wait for the process that is at it."""
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
        model_of: "ModelOf",
        advance: Callable[[int], None],
    ) -> list[Wanted]:
        """Measure what no other process is at; returns the rest."""
        left: list[Wanted] = []
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

    def _applied(self, architecture: Architecture) -> "PreTrainedModel":
        """The elastic model, switched to an architecture."""
        self.elastic.apply(architecture)
        return self.elastic.model

    def _switched(self, architecture: Architecture, model_of: "ModelOf") -> "PreTrainedModel":
        """The model of an architecture. Raises EvaluationError if there is no memory for its compensated weights."""
        try:
            return model_of(architecture)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._reuse.forget()
            raise EvaluationError(
                f"out of memory on {self._setup.device} while its weights were compensated: free memory there, or set "
                "model.device to another or compensate to none"
            ) from error

    def _evaluate(
        self,
        stage: str,
        architecture: Architecture,
        named: NamedEvaluator,
        model_of: "ModelOf",
    ) -> Metrics:
        import torch

        elastic = self.elastic  # made outside of inference mode, in which weights would never take part in a gradient
        with torch.inference_mode(), nullcontext() if named.compensated else _uncompensated(elastic):
            self._observe(named)
            try:
                model = self._switched(architecture, model_of)
                start = time.perf_counter()
                measurements = self._measurements(named, model)
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

    def _observe(self, named: NamedEvaluator) -> None:
        """Let an evaluator look at the dense model, once."""
        import torch

        if named.setting.key in self._observed:
            return
        self.elastic.apply(self._setup.shape.dense)
        with torch.inference_mode(), isolated(named.owner, "observe_dense"):
            self._within_memory(named, lambda: named.evaluator.observe_dense(self.elastic.model))
        self._observed.add(named.setting.key)

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

    def _measurements(self, named: NamedEvaluator, model: "PreTrainedModel") -> list[Measurement]:
        """What the evaluator says of the model. Raises EvaluationError for whatever it does wrong."""
        # What is kept for reuse was computed with compensation.
        reusing = named.evaluator.same_batches and named.compensated
        with isolated(named.owner, "evaluate", raises=EvaluationError):
            with self._reuse.active() if reusing else nullcontext():
                measurements = self._within_memory(named, lambda: named.evaluator.evaluate(model))
            return checked_measurements(named.owner, measurements, named.metrics)

    def _within_memory(self, named: NamedEvaluator, action: Callable[[], Answer]) -> Answer:
        """Do it, with half the batch each time there is no memory left, for as long as there is a batch to halve.

        From then on half of what is kept for reuse is given up each time, for as long as anything is.

        Raises:
            EvaluationError: the numbers would not be those of the smaller batch.
        """
        while True:
            try:
                return action()
            except (RuntimeError, MemoryError) as error:
                halves = getattr(named.evaluator.options, "batch", 1) > 1
                if not is_out_of_memory(error) or not (halves or self._reuse.shrink()):
                    raise
            if halves:
                # What was kept of larger batches can never match again, and is where there is no memory left.
                self._reuse.forget()
                self._halve_batch(named)

    def _halve_batch(self, named: NamedEvaluator) -> None:
        evaluator, name = named.evaluator, named.setting.evaluator.name
        batch = evaluator.options.batch
        if "batch" not in type(evaluator.options).immaterial:
            raise EvaluationError(
                f"{named.owner}: out of memory with batch {batch}, on which its numbers depend; write a smaller batch "
                f"beside use: {name}"
            )
        evaluator.options = evaluator.options.model_copy(update={"batch": batch // 2})
        self._progress.say(f"{name}: out of memory, going on with batch {batch // 2}")


@contextmanager
def _uncompensated(elastic: "ElasticModel") -> Iterator[None]:
    """Take compensation away from an elastic model; it is dense before and afterwards, so no layer mixes the two."""
    elastic.apply(elastic.shape.dense)
    compensation, elastic.compensation = elastic.compensation, None
    try:
        yield
    finally:
        elastic.apply(elastic.shape.dense)
        elastic.compensation = compensation
