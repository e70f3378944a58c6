"""The laws of searchers."""

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
from prunecast.testing.checks import Conformance, Subject, Suite, Verdict, hold
from prunecast.testing.common import COMMON_LAWS
from prunecast.testing.landscape import SHAPE, KnownOptimum
from prunecast.testing.subprocesses import call_elsewhere

WANTED = 12
"""Proposals that the laws ask for."""


class SearcherSubject(Subject[Searcher[Any]]):
    """A searcher on trial."""

    def make(self) -> Searcher[Any]:
        """One that has not searched."""
        return self.plugin(self.validated())

    def search(self, seed: int = 0, count: int = WANTED) -> list[Architecture]:
        """What a new one proposes for the known optimum."""
        return self.make().search(KnownOptimum().problem(seed), count)

    def exercise(self) -> None:
        """One search."""
        self.search()


def proposals_meet_the_budget(subject: SearcherSubject) -> None:
    """Every proposal stays within every limit, also where there are two."""
    known = KnownOptimum()
    budget = Budget.of(SHAPE, {"parameters": 0.7, "kv_cache_bytes": 0.6})
    for problem in (known.problem(), replace(known.problem(), budget=budget)):
        over = [a for a in subject.make().search(problem, WANTED) if not problem.budget.met_by(a)]
        hold(not over, f"{len(over)} proposals are over the budget, for instance {over[:1]}: see budget.fit")


def proposals_are_different_and_no_more_than_wanted(subject: SearcherSubject) -> None:
    """At most ``count`` architectures, none of them twice, and as many as wanted where there are plenty."""
    for count in (1, WANTED):
        found = subject.search(count=count)
        hold(len(found) == count, f"{len(found)} proposals where {count} were wanted and there are thousands")
        hold(len(set(found)) == len(found), "a proposal comes twice")


def proposals_are_in_the_space(subject: SearcherSubject) -> None:
    """Every proposal takes one of the values of every choice."""
    space = KnownOptimum().space
    outside = [a for a in subject.search() if indices_of(space.choices, SHAPE.dense, a) is None]
    hold(not outside, f"the space cannot express {outside[:1]}: search over space.choices")


def the_best_predicted_comes_first(subject: SearcherSubject) -> None:
    """Proposals are in the order of their predicted scores."""
    scores = KnownOptimum().regret(subject.search())
    hold((np.diff(scores) >= 0).all(), f"scores come in the order {scores.round(3).tolist()}")


def the_same_generator_gives_the_same_proposals(subject: SearcherSubject) -> None:
    """All randomness comes from ``problem.rng``: the same state of it gives the same proposals."""
    hold(subject.search(seed=5) == subject.search(seed=5), "two searches with one seed differ")


def another_process_proposes_the_same(subject: SearcherSubject) -> None:
    """The same problem has the same proposals in a process with another hash seed."""
    there = call_elsewhere(subject.plugin, _proposals, subject)
    hold(_proposals(subject) == there, "another process differs: do not iterate over sets, do not hash text")


def a_second_search_forgets_the_first(subject: SearcherSubject) -> None:
    """One instance serves all rounds; what it proposes depends only on the problem."""
    searcher = subject.make()
    searcher.search(KnownOptimum(seed=9).problem(9), WANTED)
    again = searcher.search(KnownOptimum().problem(), WANTED)
    hold(again == subject.search(), "an instance that has searched before proposes something else")


def known_architectures_are_left_alone_and_may_be_of_any_kind(subject: SearcherSubject) -> None:
    """``known`` is not changed, and may hold what the space cannot express or the budget does not allow."""
    foreign = Architecture([(2, 1, 7)] * len(SHAPE.dense.layers))
    known = [KnownOptimum().optimum, SHAPE.dense, foreign]
    problem = KnownOptimum().problem(known=known)
    found = subject.make().search(problem, WANTED)
    hold(known == [KnownOptimum().optimum, SHAPE.dense, foreign], "the list of known architectures has been changed")
    hold(all(problem.budget.met_by(a) for a in found), "a known architecture over the budget is proposed")


def a_budget_that_nothing_meets_is_an_error(subject: SearcherSubject) -> None:
    """BudgetError, as ``budget.check`` raises it, if no architecture of the space meets the budget."""
    known = KnownOptimum()
    problem = replace(known.problem(), budget=Budget.of(SHAPE, {"parameters": 0.01}))
    try:
        subject.make().search(problem, WANTED)
    except BudgetError:
        return
    hold(False, "an impossible budget raises no BudgetError: call problem.budget.check(problem.space.choices)")


def a_space_with_few_architectures_gives_few_proposals(subject: SearcherSubject) -> None:
    """Where fewer architectures than wanted meet the budget, the search ends and proposes those it found."""
    small = KnownOptimum(Steps(StepsOptions(steps=2, protect=2), SHAPE), share=0.9)
    found = subject.make().search(small.problem(), 1000)
    hold(0 < len(found) <= 64, f"{len(found)} proposals from a space of 64 architectures")
    hold(len(set(found)) == len(found), "a proposal comes twice")


def progress_counts_what_is_scored(subject: SearcherSubject) -> None:
    """The numbers given to ``progress`` add up to the architectures scored; ``evaluations`` is of their order."""
    known = KnownOptimum()
    steps: list[int] = []
    searcher = subject.make()
    searcher.search(known.problem(progress=steps.append), WANTED)
    hold(sum(steps) == known.scored, f"progress adds up to {sum(steps)}, {known.scored} architectures were scored")
    estimate = searcher.evaluations
    hold(estimate / 3 <= known.scored <= estimate * 3, f"evaluations promises {estimate}, {known.scored} were scored")


def the_best_proposal_beats_random_ones(subject: SearcherSubject) -> None:
    """Its regret is smaller than that of the better half of random architectures at the budget."""
    known = KnownOptimum()
    rng, choices = np.random.default_rng(0), known.space.choices
    drawn = known.budget.fit(choices, known.space.sample(200, rng), rng)
    typical = float(np.median(known.regret(architectures_at(choices, SHAPE.dense, drawn))))
    regret = float(known.regret(subject.search(count=1))[0])
    hold(regret < typical, f"regret {regret:.3f}, random architectures have {typical:.3f}: does it look at the scores?")


def _proposals(subject: SearcherSubject) -> list[Architecture]:
    return subject.search()


SEARCHERS = Suite(
    SearcherSubject,
    (
        *COMMON_LAWS,
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
"""All laws of searchers."""


class SearcherConformance(Conformance, suite=SEARCHERS):
    """Inherit from this, name your ``plugin``, and every law of searchers is a test of yours."""


def check_searcher(
    plugin: type[Searcher[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Try a searcher against every law; raises LawBroken, one line a law, if any is broken.

    Arguments as of :func:`prunecast.testing.check_predictor`.
    """
    return SEARCHERS.check(plugin, options, expected_failures)
