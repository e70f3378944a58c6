"""Local sensitivities of a run: found in the registry, or estimated and kept there."""

import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.measure.engine import Engine
from prunecast.measure.setup import NamedEvaluator
from prunecast.models.loss import Loss
from prunecast.plugins.isolation import isolated
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.spec.stages import SENSITIVITIES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.models.sensitivity import Sensitivities


class LocalSensitivities:
    """Estimates local sensitivities for one run; the model is loaded at the first estimate the registry lacks.

    Args:
        engine: holds the elastic model.
        evaluators: those of the search, all differentiable.
        registry: where estimates are kept.
        run_id: the run.
        progress: where progress is shown.
    """

    def __init__(
        self,
        engine: Engine,
        evaluators: Sequence[NamedEvaluator],
        registry: Registry,
        run_id: int,
        progress: Progress,
    ) -> None:
        self._engine, self._evaluators, self._registry = engine, evaluators, registry
        self._run_id, self._progress = run_id, progress

    def estimate(self, point: Architecture, changes: Collection[tuple[int, Layer]]) -> "list[Sensitivities]":
        """Changes of the metric of each evaluator, on the scale predictors learn.

        Args:
            point: the expansion point.
            changes: a layer, and what it would keep instead.
        """
        found = []
        with self._progress.bar(SENSITIVITIES, len(self._evaluators), "eval") as advance:
            for named in self._evaluators:
                found.append(self._known_or_estimated(named, point, changes))
                advance(1)
        return found

    def _known_or_estimated(
        self, named: NamedEvaluator, point: Architecture, changes: Collection[tuple[int, Layer]]
    ) -> "Sensitivities":
        from prunecast.models.sensitivity import VERSION

        known = self._registry.steps(named.setting, point, VERSION)
        missing = sorted(set(changes) - known.keys())
        if missing:
            start = time.perf_counter()
            known |= self._estimated(named, point, missing)
            seconds = time.perf_counter() - start
            self._registry.record_steps(self._run_id, named.setting, point, VERSION, known, seconds)
        return known

    def _estimated(
        self, named: NamedEvaluator, point: Architecture, changes: Sequence[tuple[int, Layer]]
    ) -> "Sensitivities":
        from prunecast.models.sensitivity import local_sensitivities

        engine = self._engine
        engine.observe(named)
        engine.elastic.apply(point)
        # Runs with different seeds share an estimate, so it depends on content alone.
        content = [int(key, base=16) for key in (named.setting.key, point.key)]

        def losses(model: "PreTrainedModel") -> "Iterable[Loss]":
            return named.evaluator.losses(model, np.random.default_rng(content))

        with isolated(named.owner, "losses"):
            return engine.within_memory(named, lambda: local_sensitivities(engine.elastic, losses, changes))
