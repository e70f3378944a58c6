"""Amounts of work for a first spec: the largest that a run finishes in the time asked for."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from prunecast.errors import BudgetError
from prunecast.text import duration

PASSES_SHARE = 0.5
"""Share of the time of passes over text that they take at the speed of a matrix product, in which they are counted."""

RUN_SECONDS = 20.0
"""Time of a run besides passes: loading libraries and model, writing the export, and loading that in a new process."""

FIT_SECONDS = 2.0
"""Time of a fit of the predictor and of a search by it."""

EVALUATION_SECONDS = 0.2
"""Time of an evaluation besides its passes: applying the architecture, preparing its text, and recording it.

These three are rounded up from runs of a model of 0.1 million parameters on two cores of a server.
"""


@dataclass(frozen=True)
class Workload:
    """How much a run measures.

    Attributes:
        tokens: most tokens of each text that is searched by; twice as many are reported on.
        pairs: architectures measured before the first fit.
        rounds: rounds of proposals.
        per_round: architectures measured in each.
        neighbours: pairs around which local sensitivities are estimated before each round.
        top: architectures to verify.
        samples: most windows of calibration text.
    """

    tokens: int
    pairs: int
    rounds: int
    per_round: int
    neighbours: int
    top: int
    samples: int


WORKLOADS = (
    Workload(1024, 6, 1, 2, 0, 1, 16),
    Workload(2048, 8, 1, 4, 0, 1, 16),
    Workload(2048, 8, 1, 4, 1, 2, 32),
    Workload(4096, 8, 1, 4, 1, 2, 32),
    Workload(4096, 16, 1, 4, 1, 2, 32),
    Workload(8192, 16, 1, 4, 1, 2, 64),
    Workload(8192, 16, 2, 4, 1, 2, 64),
    Workload(8192, 32, 2, 4, 1, 2, 64),
    Workload(16384, 16, 2, 4, 1, 3, 96),
    Workload(16384, 24, 2, 4, 1, 3, 96),
    Workload(16384, 32, 2, 4, 1, 3, 96),
    Workload(16384, 48, 3, 4, 1, 3, 96),
    Workload(16384, 64, 4, 6, 1, 3, 96),
)
"""Amounts of work, smallest first. The larger ones are those of the packaged spec ``smollm2`` and more pairs."""


def run_seconds(workload: Workload, passes: float, evaluations: int) -> float:
    """Time that a run takes in seconds, where nothing else keeps the machine busy.

    Args:
        workload: how much it measures.
        passes: time of its passes over text at the speed of a matrix product, in seconds.
        evaluations: number of its evaluations.
    """
    fits = workload.rounds + 1
    return passes / PASSES_SHARE + RUN_SECONDS + FIT_SECONDS * fits + EVALUATION_SECONDS * evaluations


def largest_within(minutes: float, seconds: Callable[[Workload], float]) -> tuple[Workload, float]:
    """The largest amount of work that a run finishes in some time, and the time of that run in seconds.

    Args:
        minutes: time asked for.
        seconds: time of a run with an amount of work, in seconds.

    Raises:
        BudgetError: the time is too short for the smallest; the message says how many minutes would do.
    """
    limit = minutes * 60
    if (least := seconds(WORKLOADS[0])) > limit:
        enough = math.ceil(least / 6) / 10
        raise BudgetError(
            f"--minutes {minutes:g}: the smallest run of this model takes about {duration(enough * 60)} on this "
            f"machine: give --minutes {enough:g} or more"
        )
    # Times are known for the few that are tried.
    tried = {0: least}

    def taken(number: int) -> float:
        tried[number] = tried[number] if number in tried else seconds(WORKLOADS[number])
        return tried[number]

    chosen = bisect_right(range(len(WORKLOADS)), limit, key=taken) - 1
    return WORKLOADS[chosen], taken(chosen)
