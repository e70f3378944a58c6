"""The outline of a run whose model is not at hand: what it would measure and what that costs, from a config alone."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from prunecast.architecture.budget import Budget
from prunecast.architecture.shape import ModelShape
from prunecast.data import read_rows
from prunecast.errors import DataError, ModelError
from prunecast.models.families import shape_of
from prunecast.plugins.guard import instance, plugin_of
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import SearchSpace
from prunecast.plugins.isolation import isolated
from prunecast.recover.training import PASSES, Course
from prunecast.run.workload import Amounts
from prunecast.search.neighbours import EVALUATIONS
from prunecast.spec.model import EvaluatorUse, Spec
from prunecast.spec.recovery import DistillRecovery, Recovery


@dataclass(frozen=True)
class OutlinedStage:
    """One stage of a run.

    Attributes:
        stage: its name.
        architectures: how many it measures; for neighbours, how many would cost as much.
        evaluations: architectures times evaluators.
        tokens: tokens that go forward through the model; one that is trained on counts as
            :data:`prunecast.recover.training.PASSES`.
        estimated: how many of them are an estimate, because their number depends on data and tokenizer: those of
            questions, by their evaluator, and those of instructions, as if all were as long as they may be.
        uncounted: evaluations, and trainings, of which not even that is known; their tokens come on top.
        petaflop: operations of a forward pass over the tokens, 2 a multiply-accumulate of the dense model, in 10^15.
    """

    stage: str
    architectures: int
    evaluations: int
    tokens: int
    estimated: int
    uncounted: int
    petaflop: float


@dataclass(frozen=True)
class Outline:
    """All stages of a run in order, for a model of ``parameters`` parameters and a space of ``choices`` choices."""

    parameters: int
    choices: int
    stages: tuple[OutlinedStage, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"parameters": self.parameters, "choices": self.choices, "stages": [asdict(s) for s in self.stages]}


def outline(spec: Spec, host: PluginHost) -> Outline:
    """Outline a spec from its ``model.config``. Of data, only instructions to train on are read, to be counted.

    Raises:
        ModelError: there is no such file, it is no config, or prunecast does not know its family.
        BudgetError: the space has nothing that meets the budget.
    """
    shape = _shape(spec)
    space: SearchSpace[Any] = plugin_of(host, spec.space, shape)
    Budget.of(shape, spec.budget).check(space.choices)
    searched, verified = spec.evaluators, [*spec.evaluators, *spec.verify.evaluators]
    amounts = Amounts.of(spec, spec.collect.pairs)
    meter = _Meter(spec, host, shape)
    stages = [
        meter.stage("dense", 1, verified),
        meter.stage("pairs", spec.collect.pairs, searched),
        meter.stage("rounds", spec.rounds * spec.per_round, searched),
        *([meter.stage("neighbours", EVALUATIONS * amounts.expansions, searched)] if amounts.expansions else []),
        meter.stage("verify", amounts.verified, spec.verify.evaluators),
        meter.stage("baselines", amounts.baselines, verified),
        *(meter.stage(name, amounts.contending, searched) for name in amounts.searches),
        *([] if spec.recover is None else [meter.training(spec.recover, verified)]),
    ]
    return Outline(int(shape.count([shape.dense])[0]), len(space.choices), tuple(stages))


class _Meter:
    """Counts the tokens of stages: by the options of evaluators, else by what these expect."""

    def __init__(self, spec: Spec, host: PluginHost, shape: ModelShape) -> None:
        self._spec, self._host = spec, host
        self._petaflop_a_token = 2 * int(shape.count([shape.dense], "macs")[0]) / 1e15

    def stage(self, name: str, architectures: int, evaluators: Sequence[EvaluatorUse]) -> OutlinedStage:
        """Evaluations of so many architectures."""
        lengths = [getattr(use.options, "tokens", None) for use in evaluators]
        expected = [self._expected(use) for use, length in zip(evaluators, lengths, strict=True) if length is None]
        estimated = architectures * sum(filter(None, expected))
        tokens = architectures * sum(filter(None, lengths)) + estimated
        evaluations, uncounted = architectures * len(evaluators), architectures * expected.count(None)
        petaflop = tokens * self._petaflop_a_token
        return OutlinedStage(name, architectures, evaluations, tokens, estimated, uncounted, petaflop)

    def training(self, options: Recovery, evaluators: Sequence[EvaluatorUse]) -> OutlinedStage:
        """Recovery: the training, then the verification."""
        verified = self.stage("recover", 1, evaluators)
        steps = self._steps(options)
        if steps is None:
            return replace(verified, uncounted=verified.uncounted + 1)
        tokens = PASSES * steps * options.batch * options.tokens
        return replace(
            verified,
            tokens=verified.tokens + tokens,
            estimated=verified.estimated + (0 if isinstance(options, DistillRecovery) else tokens),
            petaflop=verified.petaflop + tokens * self._petaflop_a_token,
        )

    def _steps(self, options: Recovery) -> int | None:
        """Steps of a training; None if they depend on instructions that cannot be had here."""
        if options.steps is not None:
            return options.steps
        if isinstance(options, DistillRecovery):
            return Course.steps_for(options.epochs, options.samples, options.batch)
        try:
            examples = len(read_rows(options.dataset, options.split, self._spec.data_path))
        except DataError:
            return None
        return Course.steps_for(options.epochs, examples, options.batch)

    def _expected(self, use: EvaluatorUse) -> int | None:
        registered = self._host.find(use.kind, use.use)
        evaluator = instance(registered, use.options)
        with isolated(str(registered), "expected_tokens"):
            expected: int | None = evaluator.expected_tokens
        return expected


def _shape(spec: Spec) -> ModelShape:
    from transformers import AutoConfig

    path = spec.config_path
    if path is None:
        raise ModelError("model.config: name the config.json of the model to outline a run without it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = AutoConfig.for_model(**content)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"model.config: {path} is no model config ({reason}): name a config.json") from error
    return shape_of(config)
