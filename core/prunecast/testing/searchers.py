"""Checks of searchers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import architectures_at, indices_of
from prunecast.errors import BudgetError
from prunecast.plugins.examples.space import Steps, StepsOptions
from prunecast.plugins.interfaces import Searcher
from prunecast.testing.checks import Conformance, Subject, Suite, Verdict, require
from prunecast.testing.common import COMMON_CHECKS
from prunecast.testing.landscape import SHAPE, KnownOptimum
from prunecast.testing.subprocesses import call_in_subprocess

WANTED = 12
"""Number of proposals that the checks ask for."""


class SearcherSubject(Subject[Searcher[Any]]):
    """A searcher under test."""

    def make(self) -> Searcher[Any]:
        """A new searcher."""
        return self.plugin(self.validated())

    def search(self, seed: int = 0, count: int = WANTED) -> list[Architecture]:
        """Proposals of a new searcher for the problem with a known optimum."""
        return self.make().search(KnownOptimum().problem(seed), count)

    def exercise(self) -> None:
        """Run one search."""
        self.search()


def proposals_meet_the_budget(subject: SearcherSubject) -> None:
    """Every proposal meets all limits of the budget, also of a budget with two limits."""
    known = KnownOptimum()
    budget = Budget.of(SHAPE, {"parameters": 0.7, "kv_cache_bytes": 0.6})
    for problem in (known.problem(), replace(known.problem(), budget=budget)):
        over = [a for a in subject.make().search(problem, WANTED) if not problem.budget.met_by(a)]
        require(not over, f"{len(over)} proposals are over the budget, for instance {over[:1]}: use budget.fit")


def proposals_are_different_and_no_more_than_wanted(subject: SearcherSubject) -> None:
    """Proposals are distinct, and exactly ``count`` if the space has enough architectures."""
    for count in (1, WANTED):
        found = subject.search(count=count)
        require(len(found) == count, f"{len(found)} proposals, but {count} were wanted and the space has thousands")
        require(len(set(found)) == len(found), "a proposal is repeated")


def proposals_are_in_the_space(subject: SearcherSubject) -> None:
    """Every proposal has one of the listed values in every choice."""
    space = KnownOptimum().space
    outside = [a for a in subject.search() if indices_of(space.choices, SHAPE.dense, a) is None]
    require(not outside, f"the space cannot express {outside[:1]}: search over space.choices")


def the_best_predicted_comes_first(subject: SearcherSubject) -> None:
    """Proposals are sorted by predicted score, best first."""
    scores = KnownOptimum().regret(subject.search())
    require((np.diff(scores) >= 0).all(), f"the scores are not ascending: {scores.round(3).tolist()}")


def the_same_generator_gives_the_same_proposals(subject: SearcherSubject) -> None:
    """All randomness comes from ``problem.rng``: the same generator state gives the same proposals."""
    require(
        subject.search(seed=5) == subject.search(seed=5),
        "two searches with the same seed differ: take all randomness from problem.rng",
    )


def another_process_proposes_the_same(subject: SearcherSubject) -> None:
    """A process with another hash seed gives the same proposals for the same problem."""
    there = call_in_subprocess(subject.plugin, _proposals, subject)
    require(_proposals(subject) == there, "another process differs: do not iterate over sets, do not hash text")


def a_second_search_forgets_the_first(subject: SearcherSubject) -> None:
    """The proposals of an instance depend only on the problem, not on earlier searches."""
    searcher = subject.make()
    searcher.search(KnownOptimum(seed=9).problem(9), WANTED)
    again = searcher.search(KnownOptimum().problem(), WANTED)
    require(again == subject.search(), "an instance that has searched before gives other proposals")


def known_architectures_are_left_alone_and_may_be_of_any_kind(subject: SearcherSubject) -> None:
    """``known`` is not modified; it may contain architectures outside the space or over the budget."""
    foreign = Architecture([(2, 1, 7)] * len(SHAPE.dense.layers))
    known = [KnownOptimum().optimum, SHAPE.dense, foreign]
    problem = KnownOptimum().problem(known=known)
    found = subject.make().search(problem, WANTED)
    require(known == [KnownOptimum().optimum, SHAPE.dense, foreign], "the list of known architectures has been changed")
    require(all(problem.budget.met_by(a) for a in found), "a known architecture over the budget is proposed")


def a_budget_that_nothing_meets_is_an_error(subject: SearcherSubject) -> None:
    """A budget that no architecture of the space meets raises BudgetError, as ``budget.check`` does."""
    known = KnownOptimum()
    problem = replace(known.problem(), budget=Budget.of(SHAPE, {"parameters": 0.01}))
    try:
        subject.make().search(problem, WANTED)
    except BudgetError:
        return
    require(False, "an impossible budget raises no BudgetError: call problem.budget.check(problem.space.choices)")


def a_space_with_few_architectures_gives_few_proposals(subject: SearcherSubject) -> None:
    """If fewer than ``count`` architectures meet the budget, the search ends and returns those it found."""
    small = KnownOptimum(Steps(StepsOptions(steps=2, protect=2), SHAPE), share=0.9)
    found = subject.make().search(small.problem(), 1000)
    require(0 < len(found) <= 64, f"{len(found)} proposals from a space of 64 architectures")
    require(len(set(found)) == len(found), "a proposal is repeated")


def progress_counts_what_is_scored(subject: SearcherSubject) -> None:
    """``progress`` receives the number of scored architectures in total; ``evaluations`` is within a factor of 3."""
    known = KnownOptimum()
    steps: list[int] = []
    searcher = subject.make()
    searcher.search(known.problem(progress=steps.append), WANTED)
    require(
        sum(steps) == known.scored, f"progress adds up to {sum(steps)}, but {known.scored} architectures were scored"
    )
    estimate = searcher.evaluations
    require(
        estimate / 3 <= known.scored <= estimate * 3,
        f"evaluations is {estimate}, but {known.scored} architectures were scored",
    )


def the_best_proposal_beats_random_ones(subject: SearcherSubject) -> None:
    """The regret of the best proposal is below the median regret of 200 random architectures at the budget."""
    known = KnownOptimum()
    rng, choices = np.random.default_rng(0), known.space.choices
    drawn = known.budget.fit(choices, known.space.sample(200, rng), rng)
    typical = float(np.median(known.regret(architectures_at(choices, SHAPE.dense, drawn))))
    regret = float(known.regret(subject.search(count=1))[0])
    require(
        regret < typical,
        f"regret {regret:.3f}, random architectures have a median of {typical:.3f}: are the scores used?",
    )


def _proposals(subject: SearcherSubject) -> list[Architecture]:
    return subject.search()


SEARCHERS = Suite(
    SearcherSubject,
    (
        *COMMON_CHECKS,
        proposals_meet_the_budget,
        proposals_are_different_and_no_more_than_wanted,
        proposals_are_in_the_space,
        the_best_predicted_comes_first,
        the_same_generator_gives_the_same_proposals,
        another_process_proposes_the_same,
        a_second_search_forgets_the_first,
        known_architectures_are_left_alone_and_may_be_of_any_kind,
        a_budget_that_nothing_meets_is_an_error,
        a_space_with_few_architectures_gives_few_proposals,
        progress_counts_what_is_scored,
        the_best_proposal_beats_random_ones,
    ),
)
"""Suite of searchers."""


class SearcherConformance(Conformance, suite=SEARCHERS):
    """Base of a test class for a searcher: set ``plugin``, and every check of searchers becomes a test."""


def check_searcher(
    plugin: type[Searcher[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Run every check on a searcher. Raises CheckFailed, with one line per failed check, if any fails.

    The arguments are those of :func:`prunecast.testing.check_predictor`.
    """
    return SEARCHERS.check(plugin, options, expected_failures)
