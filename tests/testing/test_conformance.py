"""The examples and all bundled plugins pass the checks of their kind."""

from collections.abc import Iterator
from typing import Any

import pytest

from prunecast.plugins.examples.evaluator import Guesses
from prunecast.plugins.examples.executor import Commands
from prunecast.plugins.examples.exporter import Program
from prunecast.plugins.examples.predictor import Ridge
from prunecast.plugins.examples.pruner import Norms
from prunecast.plugins.examples.searcher import Climb
from prunecast.plugins.examples.space import Steps
from prunecast.plugins.host import KINDS, PluginHost
from prunecast.testing import (
    SUITES,
    EvaluatorConformance,
    ExecutorConformance,
    ExporterConformance,
    PredictorConformance,
    PrunerConformance,
    SearcherConformance,
    SpaceConformance,
)
from prunecast.testing.checks import verdict_on


class TestRidge(PredictorConformance):
    plugin = Ridge


class TestClimb(SearcherConformance):
    plugin = Climb
    options = {"generations": 5, "children": 40}


class TestSteps(SpaceConformance):
    plugin = Steps


class TestNorms(PrunerConformance):
    plugin = Norms


class TestGuesses(EvaluatorConformance):
    plugin = Guesses
    options = {"windows": 2, "context": 64}


class TestCommands(ExecutorConformance):
    plugin = Commands


class TestProgram(ExporterConformance):
    plugin = Program
    options = {"probe": 16}


def bundled() -> Iterator[Any]:
    """All checks of all plugins of this distribution, with their trial options."""
    host = PluginHost.discover()
    for kind in KINDS:
        for name, registered in host.entries(kind).items():
            if registered.distribution == "prunecast":
                for check in SUITES[kind].checks:
                    slow = name == "ray" or (kind == "exporter" and "within" in check.__name__)
                    marks = [pytest.mark.slow] if slow else []
                    yield pytest.param(registered, check, id=f"{kind}-{name}-{check.__name__}", marks=marks)


@pytest.mark.parametrize(("registered", "check"), list(bundled()))
def test_bundled_plugin_passes(registered: Any, check: Any) -> None:
    suite, trial = SUITES[registered.kind], registered.entry.trial
    subject = suite.subject(registered.load(), trial.options, trial.requires)
    verdict = verdict_on(check, subject, trial.expected_failures.get(check.__name__))
    if verdict.outcome == "does not apply":
        pytest.skip(verdict.reason)
    assert verdict.outcome in ("holds", "expected failure"), verdict.reason
