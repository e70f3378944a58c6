"""Overlapping rounds: a round begins when a share of the running measurements is complete, and is as large as that.

With many workers, the slowest measurement of a round would keep all others waiting. Here the predictor is fitted again
as soon as enough measurements are complete. Architectures that are still being measured count as chosen, so that
proposals stay diverse (as in asynchronous batch optimisation, Ginsbourger, Janusevskis and Le Riche 2011).
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.plugins.interfaces import Searcher
from prunecast.predict.fitted import Fitted
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Metrics
from prunecast.problem.problem import Problem
from prunecast.progress import Progress
from prunecast.search.search import Round, search
from prunecast.spec.model import Spec
from prunecast.spec.stages import round_name


class OverlappingRounds:
    """Proposes the rounds of a run, one after the other, while earlier ones are still being measured.

    Args:
        problem: the problem, over a refined space if there is one.
        searcher: proposes architectures.
        measured: all pairs measured before the first round.
        spec: number of rounds, share of each that is awaited, and acquisition.
        fit: fits the predictor to measured pairs, after a number of rounds.
        progress: where progress is shown.
    """

    def __init__(
        self,
        problem: Problem,
        searcher: Searcher[Any],
        measured: Measured,
        spec: Spec,
        fit: Callable[[Measured, int], Fitted],
        progress: Progress,
    ) -> None:
        self._problem, self._searcher, self._measured, self._spec = problem, searcher, measured, spec
        self._fit, self._progress = fit, progress
        self._rounds: list[Round] = []
        self._asked = self._proposed = self._over_before = 0

    def propose(
        self, count: int, found: Mapping[Architecture, Metrics], failed: Collection[Architecture]
    ) -> tuple[str, list[Architecture]] | None:
        """The next round, if enough measurements are complete since the last one.

        Args:
            count: number of proposals of the first round. A later one has as many as were completed since the last one;
                all together have as many as the rounds of the spec.
            found: metrics of the proposals that have been measured.
            failed: proposals that could not be measured.

        Returns:
            The stage and the proposals; None if more has to be measured first, or there are no more rounds.
        """
        over = len(found) + len(failed)
        left, new, is_waiting = self._spec.rounds * count - self._asked, over - self._over_before, over < self._proposed
        if not left or (is_waiting and new < math.ceil(self._spec.refit_after * count)):
            return None
        self._over_before, size = over, min(left, new if is_waiting else count)
        self._asked += size
        proposed = [each.architecture for before in self._rounds for each in before.chosen]
        pending = [each for each in proposed if each not in found and each not in failed]
        measured = self._measured.and_also(found)
        number, rounds, options = len(self._rounds) + 1, self.with_metrics(found), self._spec.choose
        fitted = self._fit(measured, number - 1)
        proposals = search(
            self._problem, self._searcher, fitted, measured, rounds, options, size, self._progress, pending
        )
        self._proposed += len(proposals)
        self._rounds.append(Round(number, len(measured), options.rule, tuple(proposals)))
        return round_name(number), [each.architecture for each in proposals]

    def with_metrics(self, found: Mapping[Architecture, Metrics]) -> list[Round]:
        """The rounds so far, with the metrics of their proposals."""
        return [
            replace(each, chosen=tuple(replace(p, measured=found.get(p.architecture)) for p in each.chosen))
            for each in self._rounds
        ]
