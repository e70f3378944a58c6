"""The plan of a run: what it would measure, what of it is known already, and how long the rest will take."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import NamedEvaluator, Setup
from prunecast.plugins.isolation import isolated
from prunecast.progress import Progress
from prunecast.recover.recover import Recoverer
from prunecast.recover.training import PASSES
from prunecast.registry import Registry
from prunecast.registry.queries.stats import mean_seconds
from prunecast.run.preflight import begin
from prunecast.run.workload import Amounts
from prunecast.search.initial_design import given, propose
from prunecast.search.neighbours import EVALUATIONS
from prunecast.spec.recovery import Recovery

_SILENT = Progress(quiet=True)


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Attributes:
        stage: its name.
        architectures: how many it measures.
        evaluations: architectures times evaluators; an upper bound where the architectures are not known yet.
        cached: how many of them are in the registry; None if that depends on what the search will find.
        seconds: estimated time of the others.
    """

    stage: str
    architectures: int
    evaluations: int
    cached: int | None
    seconds: float


@dataclass(frozen=True)
class Plan:
    """All stages of a run in order, and where the time estimate comes from."""

    steps: tuple[Step, ...]
    basis: str

    @property
    def seconds(self) -> float:
        """Estimated time of all evaluations; loading, ranking and searching come on top."""
        return sum(step.seconds for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"steps": [asdict(step) for step in self.steps], "seconds": self.seconds, "basis": self.basis}


def plan(setup: Setup, registry: Registry) -> Plan:
    """Plan a run without loading a weight or measuring anything. Raises what the run would raise before measuring."""
    begin(setup, registry)
    clock, spec = _Clock(setup, registry), setup.spec
    pairs = propose(setup, given(setup, registry))
    amounts = Amounts.of(spec, len(pairs))
    steps = [
        clock.known("dense", [setup.shape.dense], setup.verifiers),
        clock.known("pairs", pairs, setup.evaluators),
        *(clock.unknown(f"round {r}", spec.per_round, setup.evaluators) for r in range(1, spec.rounds + 1)),
        *([clock.around(amounts.expansions)] if amounts.expansions else []),
        clock.unknown("verify", amounts.verified, setup.verifiers[len(setup.evaluators) :]),
        clock.unknown("baselines", amounts.baselines, setup.verifiers),
        *(clock.unknown(name, amounts.contending, setup.evaluators) for name in amounts.searches),
        *([] if spec.recover is None else [clock.training(spec.recover)]),
    ]
    return Plan(tuple(steps), clock.basis)


class _Clock:
    """Estimates evaluations: by what the registry recorded for the same setting, else by this machine's arithmetic."""

    def __init__(self, setup: Setup, registry: Registry) -> None:
        self._setup, self._registry = setup, registry
        self._seconds = {named.setting.key: self._estimate(named) for named in setup.verifiers}
        recorded = any(mean_seconds(registry, named.setting) for named in setup.verifiers)
        self.basis = "recorded evaluations" if recorded else "a matrix multiplication timed on this machine"

    def known(self, stage: str, architectures: list[Architecture], evaluators: Sequence[NamedEvaluator]) -> Step:
        """A stage whose architectures are fixed by the spec."""
        missing = {
            e.setting.key: len(architectures) - len(self._registry.lookup(e.setting, architectures)) for e in evaluators
        }
        total = len(architectures) * len(evaluators)
        seconds = sum(count * self._seconds[key] for key, count in missing.items())
        return Step(stage, len(architectures), total, total - sum(missing.values()), seconds)

    def unknown(self, stage: str, count: int, evaluators: Sequence[NamedEvaluator]) -> Step:
        """A stage whose architectures are found on the way."""
        seconds = sum(count * self._seconds[named.setting.key] for named in evaluators)
        return Step(stage, count, count * len(evaluators), None, seconds)

    def around(self, count: int) -> Step:
        """The neighbours of ``count`` architectures."""
        one = self.unknown("neighbours", count, self._setup.evaluators)
        return replace(one, seconds=EVALUATIONS * one.seconds)

    def training(self, options: Recovery) -> Step:
        """Recovery: the training, then the verification."""
        recoverer = Recoverer(self._setup, options, lambda: build_elastic(self._setup, _SILENT), _SILENT)
        tokens = recoverer.course.steps * options.batch * options.tokens
        verified = self.unknown("recover", 1, self._setup.verifiers)
        return replace(verified, seconds=verified.seconds + PASSES * tokens * self._seconds_per_token)

    def _estimate(self, named: NamedEvaluator) -> float:
        recorded = mean_seconds(self._registry, named.setting)
        if recorded is not None:
            return recorded
        with isolated(named.owner, "tokens"):
            tokens = int(named.evaluator.tokens)
        return tokens * self._seconds_per_token

    @cached_property
    def _seconds_per_token(self) -> float:
        """Time of one token's forward pass, by this machine's arithmetic."""
        return int(self._setup.shape.count([self._setup.shape.dense], "macs")[0]) / _macs_per_second(self._setup)


def _macs_per_second(setup: Setup) -> float:
    """Multiply-accumulates a second of one matrix product of the model's own width."""
    import torch

    rows, width, repeat = 1024, setup.shape.hidden_size, 8
    left = torch.ones(rows, width, dtype=setup.dtype, device=setup.device)
    right = torch.ones(width, 4 * width, dtype=setup.dtype, device=setup.device)
    left @ right
    start = time.perf_counter()
    for _ in range(repeat):
        product = left @ right
    product[0, 0].item()  # waits for the device
    return repeat * rows * width * 4 * width / (time.perf_counter() - start)
