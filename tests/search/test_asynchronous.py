"""Overlapping rounds: all proposals are measured, each round learns from what there is, nothing is proposed twice."""

from contextlib import chdir

import pytest
from workplace import EVALUATIONS, Workplace

from prunecast.architecture.architecture import Architecture
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.predict.fitted import fit
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Metrics
from prunecast.progress import Progress
from prunecast.search.asynchronous import OverlappingRounds
from prunecast.search.initial_design import propose
from prunecast.spec.load import load_spec

OVERLAPPING = ("run", "tiny.yaml", "--json", "--set", "export=null", "--set", "refit_after=0.4", "--set", "rounds=3")


@pytest.fixture
def rounds(workplace: Workplace) -> OverlappingRounds:
    """Fifteen proposals for the tiny model: five at first, and two whenever two have come in."""
    host = PluginHost.discover()
    overrides = ["refit_after=0.4", "rounds=3", "per_round=5"]
    with chdir(workplace.folder):
        setup = Setup(load_spec("tiny.yaml", host, overrides), host)
        problem = setup.problem
        first = {each: metrics_of(each) for each in propose(problem, setup.spec.collect, [])}
        measured = Measured(problem.objective, first)
        return OverlappingRounds(
            problem, setup.searcher, measured, setup.spec, lambda known, _: fit(problem, known), Progress(quiet=True)
        )


def metrics_of(architecture: Architecture) -> Metrics:
    widths = [layer.mlp_width for layer in architecture.layers]
    return {"validation.validation.ppl": 50.0 - sum(place * width for place, width in enumerate(widths, 1)) / 10}


def test_a_round_begins_when_a_share_of_the_one_before_is_over(rounds: OverlappingRounds) -> None:
    stage, first = rounds.propose(5, {}, ()) or ("", [])
    assert (stage, len(first)) == ("round 1", 5)
    found = {first[0]: metrics_of(first[0])}
    assert rounds.propose(5, found, ()) is None
    assert rounds.propose(5, found, [first[3]]) is not None, "what could not be measured is over, too"
    assert rounds.propose(5, found, [first[3]]) is None


def test_nothing_is_proposed_twice_and_each_round_learns_from_what_there_is(rounds: OverlappingRounds) -> None:
    proposed: list[Architecture] = []
    found: dict[Architecture, Metrics] = {}
    pairs = []
    while (answer := rounds.propose(5, found, ())) is not None or len(found) < len(proposed):
        if answer is not None:
            proposed += answer[1]
            pairs.append(rounds.with_metrics(found)[-1].pairs)
        waiting = [each for each in proposed if each not in found]
        found[waiting[-1]] = metrics_of(waiting[-1])
    assert len(set(proposed)) == len(proposed) == 15
    assert pairs == [12, 14, 16, 18, 20, 22]
    whole = rounds.with_metrics(found)
    assert all(each.measured == metrics_of(each.architecture) for of_round in whole for each in of_round.chosen)


def test_a_run_with_overlapping_rounds_measures_them_all_and_continues_without_measuring(workplace: Workplace) -> None:
    outcome = workplace.prunecast(*OVERLAPPING)
    assert outcome.code == 0, outcome.stderr
    result = outcome.json
    assert [len(each["chosen"]) for each in result["rounds"]] == [3, 2, 2, 2]
    assert all(chosen["measured"] for each in result["rounds"] for chosen in each["chosen"])
    assert [each["pairs"] for each in result["rounds"]] == [12, 14, 16, 18]
    assert result["predictor"]["pairs"] == 12 + 9
    assert result["evaluations"]["measured"] == EVALUATIONS + 3
    stages = dict(workplace.sql("SELECT stage, count(*) FROM run_evaluations WHERE stage LIKE 'round%' GROUP BY stage"))
    assert stages == {"round 1": 3, "round 2": 2, "round 3": 2, "round 4": 2}
    again = workplace.prunecast(*OVERLAPPING).json
    assert again["evaluations"]["measured"] == 0


@pytest.mark.slow
def test_workers_measure_overlapping_rounds(workplace: Workplace) -> None:
    outcome = workplace.prunecast(*OVERLAPPING, "--executor", "processes")
    assert outcome.code == 0, outcome.stderr
    assert all(chosen["measured"] for each in outcome.json["rounds"] for chosen in each["chosen"])
    assert workplace.sql("SELECT count(*) FROM leases") == [(0,)]


def test_sensitivities_need_complete_rounds(workplace: Workplace) -> None:
    outcome = workplace.prunecast("spec", "validate", "tiny.yaml", "--set", "refit_after=0.5", "--set", "neighbours=1")
    assert outcome.code == 1
    assert "neighbours needs complete rounds: set refit_after to 1, or neighbours to 0" in outcome.stderr
