"""Architectures that are proposed one batch after the other while others are still being measured."""

from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import heappop, heappush

from prunecast.architecture.architecture import Architecture
from prunecast.measure.setup import NamedEvaluator, metrics_of
from prunecast.problem.objective import Metrics

Wanted = tuple[Architecture, NamedEvaluator]
"""An evaluation that is wanted."""

Found = dict[Architecture, Metrics]
"""Metrics of architectures."""

Propose = Callable[
    [Mapping[Architecture, Metrics], Collection[Architecture]], tuple[str, Sequence[Architecture]] | None
]
"""Function that proposes architectures, and the stage they are measured for, from the metrics so far and the
architectures that could not be measured; None if it proposes nothing now."""


class Stream:
    """Architectures proposed so far, with their metrics, and which of them ``propose`` has been given.

    Args:
        propose: proposes architectures.
        evaluators: the evaluators.

    Attributes:
        stages: stage of each architecture.
        metrics: all metrics so far of each architecture.
        found: metrics of the architectures that ``propose`` is given, all of them complete, in order of completion.
    """

    def __init__(self, propose: Propose, evaluators: Sequence[NamedEvaluator]) -> None:
        self._propose, self._evaluators = propose, evaluators
        self._names = {metric.name for metric in metrics_of(evaluators)}
        self._failed: set[Architecture] = set()
        self._arriving: list[tuple[int, int, Architecture]] = []
        self.stages: dict[Architecture, str] = {}
        self.metrics: dict[Architecture, Metrics] = {}
        self.found: dict[Architecture, Metrics] = {}

    def proposed(self) -> list[Architecture] | None:
        """More architectures; None if nothing is proposed until more has been measured."""
        while (answer := self._propose(self.found, self._failed)) is not None:
            stage, architectures = answer
            self.stages |= dict.fromkeys(architectures, stage)
            self.metrics |= {architecture: {} for architecture in architectures}
            if architectures:
                return list(architectures)
        return None

    def wanted(self, architectures: Sequence[Architecture]) -> list[Wanted]:
        """All evaluations of some architectures."""
        return [(architecture, named) for architecture in architectures for named in self._evaluators]

    def sort_in(
        self, architectures: Sequence[Architecture], missing: Sequence[Wanted], order: Mapping[Architecture, int]
    ) -> None:
        """Queue architectures with all metrics; those neither complete nor ``missing`` have been given up on.

        Args:
            architectures: architectures that were just proposed.
            missing: evaluations that still have to be made.
            order: number of each architecture with all metrics; smaller numbers leave the queue first.
        """
        for place, architecture in enumerate(architectures):
            if self._names <= self.metrics[architecture].keys():
                heappush(self._arriving, (order[architecture], place, architecture))
            elif architecture not in {each for each, _ in missing}:
                self._failed.add(architecture)

    def arrive(self) -> bool:
        """Move the next architecture of the queue to ``found``; False if the queue is empty."""
        if not self._arriving:
            return False
        self.over(heappop(self._arriving)[-1], False)
        return True

    def over(self, architecture: Architecture, failed: bool) -> None:
        """Note that one evaluation of an architecture is over."""
        if failed:
            self._failed.add(architecture)
        elif self._names <= self.metrics[architecture].keys():
            self.found[architecture] = self.metrics[architecture]

    @property
    def left(self) -> list[Architecture]:
        """Architectures that are neither complete nor failed."""
        return [each for each in self.metrics if each not in self.found and each not in self._failed]
