"""The search of one round: proposals that the predictor expects to be good and that have not been measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.plugins.interfaces import Searcher, SearchProblem
from prunecast.predict.fitted import Fitted
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Metrics
from prunecast.problem.problem import Problem
from prunecast.progress import Progress
from prunecast.search.acquisition import acquire
from prunecast.search.trust_region import Score, members, penalised_outside
from prunecast.spec.model import ChooseSpec

POOL = 256
"""Best proposals of a search that a round acquires from."""


@dataclass(frozen=True)
class Proposal:
    """An architecture that a round acquired.

    Attributes:
        architecture: sizes that it keeps.
        parameters: all parameters, embeddings included.
        predicted: predicted metrics by name.
        std: standard deviation of each prediction, on the scale predictors learn (logarithms of perplexities).
        measured: measured metrics by name; None if it could not be measured.
    """

    architecture: Architecture
    parameters: int
    predicted: Metrics
    std: Metrics
    measured: Metrics | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "architecture": str(self.architecture),
            "parameters": self.parameters,
            "predicted": self.predicted,
            "std": self.std,
            "measured": self.measured,
        }


@dataclass(frozen=True)
class Round:
    """One round: search against the prediction, acquire, measure.

    Attributes:
        number: 1 for the first.
        pairs: number of pairs that the predictor was fitted on.
        rule: acquisition strategy.
        chosen: proposals in the order they were acquired.
    """

    number: int
    pairs: int
    rule: str
    chosen: tuple[Proposal, ...]

    @property
    def measured(self) -> dict[Architecture, Metrics]:
        """Metrics of the proposals that could be measured, in order."""
        return {each.architecture: each.measured for each in self.chosen if each.measured is not None}

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        chosen = [each.to_json() for each in self.chosen]
        return {"round": self.number, "pairs": self.pairs, "rule": self.rule, "chosen": chosen}


def search(
    problem: Problem,
    searcher: Searcher[Any],
    fitted: Fitted,
    measured: Measured,
    rounds: Sequence[Round],
    options: ChooseSpec,
    count: int,
    progress: Progress,
    pending: Sequence[Architecture] = (),
) -> list[Proposal]:
    """Up to ``count`` architectures of the space that meet the budget and have not been measured.

    An architecture that an earlier round could not measure is not proposed again. The strategy ``spread`` searches
    without the budget; the budget is only used to choose the best architecture afterwards.

    Args:
        problem: the problem, over a refined space if there is one.
        searcher: proposes architectures.
        fitted: predicts them.
        measured: all measured pairs.
        rounds: earlier rounds.
        options: acquisition and trust region.
        count: number of proposals wanted.
        progress: where progress is shown.
        pending: proposals of earlier rounds that are still being measured.
    """
    number, radius = len(rounds) + 1, _radius(problem, measured, rounds, options)
    everywhere = options.rule == "spread"
    tried = {*measured.metrics, *(each.architecture for before in rounds for each in before.chosen)}
    with progress.bar(f"search, round {number}", searcher.evaluations, "arch") as advance:
        asked = SearchProblem(
            space=problem.space,
            budget=replace(problem.budget, limits={}) if everywhere else problem.budget,
            score=_score(problem, fitted, measured, options, radius),
            rng=problem.rng("search", number),
            known=measured.ranked(problem.budget),
            progress=advance,
        )
        found = searcher.search(asked, (searcher.evaluations if everywhere else POOL) + len(tried))
    pool = [each for each in found if each not in tried and problem.allows(each)]
    if radius is not None:
        pool = members(pool, measured.architectures, problem.shape, radius)
    acquired = acquire(pool, fitted, problem.shape, options, count, pending)
    parameters = problem.shape.count(acquired).tolist() if acquired else []
    return [Proposal(*row) for row in zip(acquired, parameters, *fitted.predictions(acquired), strict=True)]


def _score(problem: Problem, fitted: Fitted, measured: Measured, options: ChooseSpec, radius: float | None) -> Score:
    """Function that the search minimises: the predicted objective or its bound, penalised outside a trust region."""
    score: Score = fitted.score if options.rule != "confidence" else lambda batch: fitted.bound(batch, options.width)
    return score if radius is None else penalised_outside(score, measured.architectures, problem.shape, radius)


def _radius(problem: Problem, measured: Measured, rounds: Sequence[Round], options: ChooseSpec) -> float | None:
    """Radius of the trust region; None if the region is unlimited.

    It is multiplied by ``shrink`` for every earlier round that did not improve on the best so far.
    """
    if options.within is None:
        return None
    of_rounds = {architecture for each in rounds for architecture in each.measured}
    best, without_gain = measured.without(of_rounds).best(problem.budget), 0
    for each in rounds:
        candidates = [*([] if best is None else [best]), *each.measured]
        best_now = measured.only(candidates).best(problem.budget)
        without_gain += best_now == best
        best = best_now
    return options.within * options.shrink**without_gain


def finalists(problem: Problem, measured: Measured, rounds: Sequence[Round], top: int) -> list[Architecture]:
    """Architectures to verify: the best ``top`` that meet the budget, then those the last round spread over the totals.

    Empty if none meets the budget and can be exported to the targets, as the first one is the run's best.
    """
    best = [each for each in measured.ranked(problem.budget) if problem.allows(each)][:top]
    spread = [each.architecture for each in spread_over(rounds) if each.measured is not None]
    return list(dict.fromkeys([*best, *spread])) if best else []


def spread_over(rounds: Sequence[Round]) -> tuple[Proposal, ...]:
    """Proposals of the last round if its strategy spread them over the totals; none under any other strategy."""
    return rounds[-1].chosen if rounds[-1].rule == "spread" else ()
