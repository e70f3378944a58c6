"""The search problem of a spec: made without a checkpoint, reproducible, and checked against its budget."""

import subprocess
import sys

import pytest
import yaml
from workplace import SPEC, TINY

from prunecast.errors import BudgetError
from prunecast.plugins.host import PluginHost
from prunecast.problem.problem import Problem
from prunecast.spec.load import parse_spec

HOST = PluginHost.discover()


def problem(**changes: object) -> Problem:
    return Problem.of(parse_spec(yaml.safe_dump(SPEC | changes), HOST), HOST, TINY)


def test_a_problem_needs_no_torch() -> None:
    code = (
        "import sys, prunecast.problem.problem, prunecast.search.search, prunecast.predict.fitted, "
        "prunecast.compare.search_baselines, prunecast.run.forecast; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_generators_depend_only_on_seed_stage_and_number() -> None:
    def draw(seed: int, stage: str, number: int = 0) -> int:
        return int(problem(seed=seed).rng(stage, number).integers(2**60))

    assert draw(0, "search", 1) == draw(0, "search", 1)
    assert len({draw(0, "search", 1), draw(0, "search", 2), draw(0, "collect", 1), draw(1, "search", 1)}) == 4


def test_a_budget_below_the_space_is_refused_immediately() -> None:
    with pytest.raises(BudgetError, match="no architecture of the search space meets parameters"):
        problem(budget={"parameters": 0.01})
