"""The searching stage: what the predictor thinks promising among what has not been measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.measure.setup import Setup
from prunecast.plugins.interfaces import SearchProblem, SearchSpace
from prunecast.predict.fitted import Fitted
from prunecast.problem.objective import Metrics
from prunecast.progress import Progress
from prunecast.search.acquisition import choose
from prunecast.search.trust_region import Score, inside, within

POOL = 256
"""Best proposals of a search that a round chooses from."""


@dataclass(frozen=True)
class Chosen:
    """An architecture that a round chose.

    Attributes:
        architecture: what it keeps.
        parameters: all of them.
        predicted: metrics it was predicted to have.
        std: standard deviation of each prediction, on the scale predictors learn (logarithms of perplexities).
        measured: metrics it turned out to have; None if it could not be measured.
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
    """One round: search against the prediction, choose, measure.

    Attributes:
        number: 1 for the first.
        pairs: how many the predictor was fitted on.
        rule: what the architectures were chosen by.
        chosen: them, in the order chosen.
    """

    number: int
    pairs: int
    rule: str
    chosen: tuple[Chosen, ...]

    @property
    def measured(self) -> dict[Architecture, Metrics]:
        """What could be measured of the chosen, in order."""
        return {each.architecture: each.measured for each in self.chosen if each.measured is not None}

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        chosen = [each.to_json() for each in self.chosen]
        return {"round": self.number, "pairs": self.pairs, "rule": self.rule, "chosen": chosen}


def search(
    setup: Setup,
    space: SearchSpace[Any],
    fitted: Fitted,
    pairs: Mapping[Architecture, Metrics],
    rounds: Sequence[Round],
    progress: Progress,
) -> list[Chosen]:
    """Up to ``per_round`` architectures of ``space`` that meet the budget and have not been measured.

    What an earlier round could not measure is not tried again.

    The rule ``spread`` looks at all totals, whatever the budget: it then only says which of them is the best one.

    Args:
        setup: the set-up.
        space: its space, refined if it was.
        fitted: what predicts.
        pairs: everything measured.
        rounds: those before this one.
        progress: where to tell of it.
    """
    number, reach = len(rounds) + 1, _reach(setup, pairs, rounds)
    options, searcher = setup.spec.choose, setup.searcher
    everywhere = options.rule == "spread"
    tried = {*pairs, *(each.architecture for before in rounds for each in before.chosen)}
    with progress.bar(f"search, round {number}", searcher.evaluations, "arch") as advance:
        problem = SearchProblem(
            space=space,
            budget=Budget(setup.shape, {}) if everywhere else setup.budget,
            score=_score(setup, fitted, pairs, reach),
            rng=setup.rng("search", number),
            known=ranked(setup, pairs),
            progress=advance,
        )
        found = searcher.search(problem, (searcher.evaluations if everywhere else POOL) + len(tried))
    pool = [architecture for architecture in found if architecture not in tried]
    if reach is not None:
        pool = inside(pool, list(pairs), setup.shape, reach)
    chosen = choose(pool, fitted, setup.shape, options, setup.spec.per_round)
    parameters = setup.shape.count(chosen).tolist() if chosen else []
    return [Chosen(*row) for row in zip(chosen, parameters, *fitted.predictions(chosen), strict=True)]


def _score(setup: Setup, fitted: Fitted, pairs: Mapping[Architecture, Metrics], reach: float | None) -> Score:
    """What the search minimises: the predicted objective or its bound, near enough to what was measured."""
    options = setup.spec.choose
    score: Score = fitted.score if options.rule != "confidence" else lambda batch: fitted.bound(batch, options.width)
    return score if reach is None else within(score, list(pairs), setup.shape, reach)


def _reach(setup: Setup, pairs: Mapping[Architecture, Metrics], rounds: Sequence[Round]) -> float | None:
    """How far the next round may go: less for each round that found nothing better than all before it."""
    options = setup.spec.choose
    if options.within is None:
        return None
    later = {architecture for each in rounds for architecture in each.measured}
    best, stalled = ranked(setup, {a: metrics for a, metrics in pairs.items() if a not in later})[:1], 0
    for each in rounds:
        better = ranked(setup, {a: pairs[a] for a in (*best, *each.measured)})[:1]
        best, stalled = better, stalled + (better == best)
    return options.within * options.shrink**stalled


def ranked(setup: Setup, measured: Mapping[Architecture, Metrics]) -> list[Architecture]:
    """Measured architectures that meet the budget, best objective first."""
    architectures = [architecture for architecture in measured if setup.budget.met_by(architecture)]
    if not architectures:
        return []
    scores = setup.objective.score(setup.objective.targets([measured[a] for a in architectures]))
    order = sorted(range(len(architectures)), key=lambda i: (scores[i], architectures[i].key))
    return [architectures[i] for i in order]


def finalists(setup: Setup, pairs: Mapping[Architecture, Metrics], rounds: Sequence[Round]) -> list[Architecture]:
    """What is verified: the best measured architectures that meet the budget, then what the last round spread.

    Nothing if none meets the budget: the first to be verified is the run's best.
    """
    best = ranked(setup, pairs)[: setup.spec.verify.top]
    spread = [each.architecture for each in spread_over(rounds) if each.measured is not None]
    return list(dict.fromkeys([*best, *spread])) if best else []


def spread_over(rounds: Sequence[Round]) -> tuple[Chosen, ...]:
    """What the last round chose to be spread over the totals; nothing under any other rule."""
    return rounds[-1].chosen if rounds[-1].rule == "spread" else ()
