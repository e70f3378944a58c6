"""Local sensitivities of a run: read from the registry, or estimated by workers and recorded there."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import EvaluationError
from prunecast.measure.dispatch import Dispatch
from prunecast.measure.setup import NamedEvaluator
from prunecast.measure.worker import Task
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.spec.stages import SENSITIVITIES

if TYPE_CHECKING:
    from prunecast.models.sensitivity import Sensitivities


class LocalSensitivities:
    """Estimates local sensitivities for one run.

    Args:
        dispatch: gives workers the estimates that the registry lacks.
        evaluators: evaluators of the search, all differentiable.
        registry: registry of the estimates.
        run_id: the run.
        progress: where progress is shown.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        evaluators: Sequence[NamedEvaluator],
        registry: Registry,
        run_id: int,
        progress: Progress,
    ) -> None:
        self._dispatch, self._evaluators, self._registry = dispatch, evaluators, registry
        self._run_id, self._progress = run_id, progress

    def estimate(
        self, points: Mapping[Architecture, Collection[tuple[int, Layer]]]
    ) -> "dict[Architecture, list[Sensitivities]]":
        """Changes of the metric of each evaluator, on the scale predictors learn, around each point.

        Args:
            points: changes of single layers by expansion point: the layer, and what it would keep instead.

        Raises:
            EvaluationError: they cannot be estimated around one of the points.
        """
        from prunecast.models.sensitivity import VERSION

        known = {
            (point, named.setting.key): self._registry.steps(named.setting, point, VERSION)
            for point in points
            for named in self._evaluators
        }
        wanted = [(point, changes, named) for point, changes in points.items() for named in self._evaluators]
        tasks = [
            Task(named, point, tuple(missing))
            for point, changes, named in wanted
            if (missing := sorted(set(changes) - known[point, named.setting.key].keys()))
        ]
        with self._progress.bar(SENSITIVITIES, len(tasks), "eval") as advance:
            for results in self._dispatch.results(tasks, lambda asked: [True] * len(asked)):
                for result in results:
                    point, setting = result.task.architecture, result.task.named.setting
                    if result.failed:
                        raise EvaluationError(f"no local sensitivities around {point}: {result.failed}")
                    found = known[point, setting.key] = known[point, setting.key] | dict(result.changes)
                    self._registry.record_steps(self._run_id, setting, point, VERSION, found, result.seconds)
                advance(len(results), self._dispatch.status)
        return {point: [known[point, named.setting.key] for named in self._evaluators] for point in points}
