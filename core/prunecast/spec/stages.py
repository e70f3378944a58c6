"""The stages of a run: their names, the evaluators they use, and how many architectures each measures.

The runner names its stages by this table, a plan and an estimate count by it, and the registry keeps the names.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from prunecast.spec.model import Spec

DENSE, PAIRS, VERIFY, RECOVER = "dense", "pairs", "verify", "recover"
BASELINES, SENSITIVITIES = "baselines", "neighbours"

ROUND = "round"
"""First word of the name of a round."""

Used = Literal["searched", "verified", "verified only"]
"""Evaluators of a stage: those of the search; those and the ones only ``verify`` names; the latter alone."""

SearchBaseline = Literal["random-search", "evolution", "depth-importance"]
SEARCH_BASELINES: tuple[SearchBaseline, ...] = get_args(SearchBaseline)
"""Baselines that search by themselves, without a predictor."""

DEPTH_BASELINES = ("depth-last", "depth-importance")
"""Baselines that drop whole layers, which a space has to have as choices."""

SENSITIVITY_EVALUATIONS = 14
"""Cost of the local sensitivities around one architecture, in evaluations: timed on SmolLM2-135M, 25 layers of 4 and 19
values."""


def round_name(number: int) -> str:
    """Name of a round, from 1 on."""
    return f"{ROUND} {number}"


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: its name, the one the registry keeps with the evaluations of the stage.
        architectures: number of architectures it measures; of sensitivities, number of expansion points.
        evaluators: the evaluators that measure them.
        cost: cost of one architecture and evaluator, in evaluations.
    """

    name: str
    architectures: int
    evaluators: Used
    cost: int = 1


def stages_of(spec: Spec, pairs: int, whole_layers: int) -> list[Stage]:
    """Stages of a spec in order.

    The counts of all stages after the pairs are upper bounds: what is found there may have been measured before.

    Args:
        spec: the run's spec.
        pairs: number of architectures that are measured before the first round.
        whole_layers: number of choices of whole layers.
    """
    totals = spec.proposals() if spec.choose.rule == "spread" else 1
    searches = [name for name in SEARCH_BASELINES if name in spec.baselines]
    built = sum(name not in SEARCH_BASELINES for name in spec.baselines)
    points = spec.rounds * spec.neighbours
    each = baseline_evaluations(spec, pairs + spec.rounds * spec.proposals(), points)
    return [
        Stage(DENSE, 1, "verified"),
        Stage(PAIRS, pairs, "searched"),
        *(Stage(round_name(number), spec.proposals(), "searched") for number in range(1, spec.rounds + 1)),
        *([Stage(SENSITIVITIES, points, "searched", SENSITIVITY_EVALUATIONS)] if points else []),
        Stage(VERIFY, spec.verify.top + totals - 1, "verified only"),
        Stage(BASELINES, built * totals + len(searches), "verified"),
        *(Stage(name, whole_layers if name == "depth-importance" else each, "searched") for name in searches),
        *([] if spec.recover is None else [Stage(RECOVER, 1, "verified")]),
    ]


def baseline_evaluations(spec: Spec, pairs: int, points: int) -> int:
    """Number of architectures that each search baseline measures: that of the spec, else the evaluations of the run.

    Args:
        spec: the run's spec.
        pairs: architectures that the run learns from.
        points: expansion points; each counts as :data:`SENSITIVITY_EVALUATIONS`.
    """
    return spec.baseline_evaluations or pairs + SENSITIVITY_EVALUATIONS * points
