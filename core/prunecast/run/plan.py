"""The plan of a run: evaluations of each stage, those in the registry already, and the estimated time of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.data import reading
from prunecast.errors import ModelError
from prunecast.measure.device import macs_per_second
from prunecast.measure.placement import Need, Placement, Work, placed
from prunecast.measure.setup import NamedEvaluator, Setup
from prunecast.measure.speeds import with_recorded_speeds
from prunecast.plugins.isolation import isolated
from prunecast.recover.training import PASSES, planned_steps
from prunecast.registry import Registry
from prunecast.registry.queries.stats import mean_seconds
from prunecast.run.preflight import preflight
from prunecast.run.texts import Texts, notes_of, texts_of
from prunecast.search.initial_design import propose, reused_architectures
from prunecast.spec.stages import DENSE, PAIRS, RECOVER, Stage, stages_of


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Attributes:
        stage: its name.
        architectures: number of architectures it measures.
        evaluations: architectures times evaluators; an upper bound where the architectures are not known yet.
        cached: number of evaluations that are in the registry; None if that depends on what the search will find.
        seconds: estimated time of the others.
    """

    stage: str
    architectures: int
    evaluations: int
    cached: int | None
    seconds: float


@dataclass(frozen=True)
class Plan:
    """All stages of a run in order, and the basis of the time estimate.

    Attributes:
        steps: the stages.
        basis: basis of the time estimate, in words.
        memory: what each placement of the weights needs.
        placement: the placement of calibration and evaluation on this machine, in words.
        texts: names of the texts of the run by purpose.
        notes: sentences to read before the run.
    """

    steps: tuple[Step, ...]
    basis: str
    memory: Mapping[Placement, Need]
    placement: str
    texts: Texts
    notes: Sequence[str]

    @property
    def seconds(self) -> float:
        """Estimated time of all evaluations; loading, ranking and searching come on top."""
        return sum(step.seconds for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "seconds": self.seconds,
            "basis": self.basis,
            "memory": {placement: asdict(need) for placement, need in self.memory.items()},
            "placement": self.placement,
            "texts": {purpose: list(names) for purpose, names in self.texts.items()},
            "notes": list(self.notes),
        }


def plan(setup: Setup, registry: Registry, overwrite: bool = False) -> Plan:
    """Plan a run without loading a weight or measuring anything. Raises what the run would raise before measuring."""
    setup = with_recorded_speeds(setup, registry)
    preflight(setup, registry, overwrite)
    spec, problem, clock = setup.spec, setup.problem, _Clock(setup, registry)
    settings = [named.setting for named in setup.evaluators]
    pairs = propose(problem, spec.collect, reused_architectures(spec, problem, registry, settings))
    known = {DENSE: [problem.shape.dense], PAIRS: pairs}
    stages = stages_of(spec, len(pairs), problem.whole_layers)
    steps = [clock.step(stage, known.get(stage.name)) for stage in stages]
    needs = Work.of(setup.spec, setup.pruner, setup.shape, setup.dtype.itemsize).needs()
    return Plan(tuple(steps), clock.basis, needs, _placement(setup), texts_of(setup), notes_of(setup))


def _placement(setup: Setup) -> str:
    """The placement on this machine, or why there is none: the run may be made on another."""
    try:
        places = placed(setup)
    except ModelError as error:
        return str(error)
    return f"{places.calibration} for calibration, {places.evaluation} for evaluation"


class _Clock:
    """Estimates times: by recorded evaluations of the same setting, else by this machine's arithmetic."""

    def __init__(self, setup: Setup, registry: Registry) -> None:
        self._setup, self._registry = setup, registry
        self._seconds = {named.setting.key: self._estimate(named) for named in setup.verifiers}
        recorded = any(mean_seconds(registry, named.setting) for named in setup.verifiers)
        self.basis = "recorded evaluations" if recorded else "a matrix multiplication timed on this machine"

    def step(self, stage: Stage, architectures: list[Architecture] | None) -> Step:
        """A stage with its time; ``architectures`` are None where they are found on the way."""
        evaluators = self._evaluators(stage)
        if architectures is not None:
            return self._known(stage.name, architectures, evaluators)
        seconds = stage.cost * sum(stage.architectures * self._seconds[named.setting.key] for named in evaluators)
        step = Step(stage.name, stage.architectures, stage.architectures * len(evaluators), None, seconds)
        return self._with_training(step) if stage.name == RECOVER else step

    def _evaluators(self, stage: Stage) -> Sequence[NamedEvaluator]:
        setup = self._setup
        if stage.evaluators == "searched":
            return setup.evaluators
        return setup.verifiers if stage.evaluators == "verified" else setup.verifiers[len(setup.evaluators) :]

    def _known(self, name: str, architectures: list[Architecture], evaluators: Sequence[NamedEvaluator]) -> Step:
        """A stage whose architectures are fixed by the spec."""
        missing = {
            e.setting.key: len(architectures) - len(self._registry.lookup(e.setting, architectures)) for e in evaluators
        }
        total = len(architectures) * len(evaluators)
        seconds = sum(count * self._seconds[key] for key, count in missing.items())
        return Step(name, len(architectures), total, total - sum(missing.values()), seconds)

    def _with_training(self, step: Step) -> Step:
        """The stage of the recovery with the time of the training."""
        options = self._setup.spec.recover
        if options is None:
            return step
        with reading(self._setup.spec.reading):
            tokens = planned_steps(options, self._setup.data_dir) * options.batch * options.tokens
        return replace(step, seconds=step.seconds + self._seconds_of(PASSES * tokens, options.tokens))

    def _estimate(self, named: NamedEvaluator) -> float:
        recorded = mean_seconds(self._registry, named.setting)
        if recorded is not None:
            return recorded
        with isolated(named.owner, "tokens"):
            tokens = int(named.evaluator.tokens)
        with isolated(named.owner, "expected_context"):
            context = int(named.evaluator.expected_context)
        return self._seconds_of(tokens, context)

    def _seconds_of(self, tokens: int, context: int) -> float:
        """Time of the forward pass of tokens that are read ``context`` at once, by this machine's arithmetic."""
        return tokens * self._setup.problem.dense_count("macs", context) / self._macs_per_second

    @cached_property
    def _macs_per_second(self) -> float:
        setup = self._setup
        return macs_per_second(setup.shape.hidden_size, setup.dtype, setup.device)
