"""The measuring engine: the elastic model, the evaluators, and the one path from an architecture to measurements.

Every number of a run, and every number that is measured again, comes through :meth:`Engine.measure`: isolated, checked,
within memory, with or without compensation. The engine knows no registry.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import EvaluationError, is_out_of_memory
from prunecast.measure.build import build_elastic
from prunecast.measure.memory import within_memory
from prunecast.measure.setup import NamedEvaluator, Setup
from prunecast.plugins.guard import checked_measurements
from prunecast.plugins.interfaces import Measurement
from prunecast.plugins.isolation import isolated
from prunecast.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.models.activation_reuse import ActivationReuse
    from prunecast.models.elastic import ElasticModel
    from prunecast.models.loss import Loss
    from prunecast.models.sensitivity import Sensitivities
    from prunecast.models.streamed.layer_major import LayerMajor

    ModelOf = Callable[[Architecture], PreTrainedModel]

Answer = TypeVar("Answer")


class Engine:
    """Measures architectures of one set-up; loads the model when it is first needed.

    Args:
        setup: model, pruner and evaluators.
        progress: where progress is shown.
    """

    def __init__(self, setup: Setup, progress: Progress) -> None:
        self._setup, self._progress = setup, progress
        self._observed: set[str] = set()
        self._expected: list[tuple[Architecture, NamedEvaluator]] = []

    @cached_property
    def elastic(self) -> "ElasticModel":
        """The elastic model, built when it is first needed."""
        return build_elastic(self._setup, self._progress)

    @cached_property
    def _reuse(self) -> "ActivationReuse | LayerMajor":
        from prunecast.models.activation_reuse import ActivationReuse
        from prunecast.models.streamed.elastic import StreamedElastic
        from prunecast.models.streamed.layer_major import LayerMajor

        return LayerMajor(self.elastic) if isinstance(self.elastic, StreamedElastic) else ActivationReuse(self.elastic)

    def expect(self, wanted: Sequence[tuple[Architecture, NamedEvaluator]]) -> None:
        """Announce what will be measured next, in its order: streamed layers are loaded once for several architectures.

        Unannounced evaluations give the same result, only slower.
        """
        self._expected = list(wanted)

    def applied(self, architecture: Architecture) -> "PreTrainedModel":
        """The elastic model, switched to an architecture."""
        self.elastic.apply(architecture)
        return self.elastic.model

    def measure(
        self, architecture: Architecture, named: NamedEvaluator, model_of: "ModelOf | None" = None
    ) -> tuple[list[Measurement], float]:
        """Measurements of an architecture by one evaluator, and the seconds that its evaluation took.

        Args:
            architecture: the architecture to measure.
            named: the evaluator.
            model_of: returns the model of an architecture; the elastic model if not given.

        Raises:
            EvaluationError: the architecture cannot be measured.
        """
        import torch

        elastic = self.elastic  # built outside of inference mode, as weights made in it never take part in a gradient
        with torch.inference_mode(), nullcontext() if named.compensated else _uncompensated(elastic):
            self.observe(named)
            model = self._switched(architecture, model_of or self.applied)
            start = time.perf_counter()
            measurements = self._measurements(named, model)
            return measurements, time.perf_counter() - start

    def sensitivities(
        self, point: Architecture, named: NamedEvaluator, changes: Sequence[tuple[int, Layer]]
    ) -> "tuple[Sensitivities, float]":
        """Local sensitivities of the metric of an evaluator, and the seconds that they took.

        Args:
            point: the expansion point.
            named: the evaluator, a differentiable one.
            changes: a layer, and what it would keep instead.
        """
        from prunecast.models.sensitivity import local_sensitivities

        elastic = self.elastic
        self.observe(named)
        start = time.perf_counter()
        elastic.apply(point)
        # Runs with different seeds share an estimate, so it depends on content alone.
        content = [int(key, base=16) for key in (named.setting.key, point.key)]

        def losses(model: "PreTrainedModel") -> "Iterable[Loss]":
            return named.evaluator.losses(model, np.random.default_rng(content))

        with isolated(named.owner, "losses"):
            found = self.within_memory(named, lambda: local_sensitivities(elastic, losses, changes))
        return found, time.perf_counter() - start

    def observe(self, named: NamedEvaluator) -> None:
        """Show the dense model to an evaluator, once."""
        import torch

        if named.setting.key in self._observed:
            return
        self.elastic.apply(self._setup.shape.dense)
        with torch.inference_mode(), isolated(named.owner, "observe_dense"):
            self.within_memory(named, lambda: named.evaluator.observe_dense(self.elastic.model))
        self._observed.add(named.setting.key)

    def within_memory(self, named: NamedEvaluator, action: Callable[[], Answer]) -> Answer:
        """Result of an action of an evaluator, with smaller batches if need be (:mod:`prunecast.measure.memory`)."""
        name = named.setting.evaluator.name
        return within_memory(
            action, named.evaluator, name=name, owner=named.owner, reuse=self._reuse, progress=self._progress
        )

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

    def _measurements(self, named: NamedEvaluator, model: "PreTrainedModel") -> list[Measurement]:
        """Checked measurements of a model. Raises EvaluationError for any error of the evaluator."""
        with isolated(named.owner, "evaluate", raises=EvaluationError):
            with self._reusing(named):
                measurements = self.within_memory(named, lambda: named.evaluator.evaluate(model))
            return checked_measurements(named.owner, measurements, named.metrics)

    def _reusing(self, named: NamedEvaluator) -> AbstractContextManager[None]:
        """A context that reuses activations of earlier evaluations."""
        from prunecast.models.streamed.layer_major import LayerMajor, Wanted

        if isinstance(self._reuse, LayerMajor):
            following = [Wanted(a, each.setting.key, each.compensated) for a, each in self._expected]
            return self._reuse.active(named.setting.key, following)
        # Activations kept for reuse were computed with compensation.
        return self._reuse.active() if named.evaluator.same_batches and named.compensated else nullcontext()


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
