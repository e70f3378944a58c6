"""The estimate of a run whose model is not at hand: evaluations, tokens and operations, from a config alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

from prunecast.data import reading
from prunecast.errors import DataError, ModelError
from prunecast.measure.placement import Need, Placement, Work
from prunecast.models.described import config_of
from prunecast.models.families.sizes import shape_of
from prunecast.plugins.host import PluginHost
from prunecast.plugins.isolation import isolated
from prunecast.problem.problem import Problem
from prunecast.recover.training import PASSES, planned_steps
from prunecast.spec.model import EvaluatorUse, Spec
from prunecast.spec.recovery import DistillRecovery
from prunecast.spec.stages import RECOVER, ROUND, Stage, stages_of


@dataclass(frozen=True)
class EstimatedStage:
    """One stage of a run, or all of its rounds.

    Attributes:
        stage: its name.
        architectures: number of architectures it measures; for local sensitivities, number that would cost as much.
        evaluations: architectures times evaluators.
        tokens: tokens that go forward through the model; one that is trained on counts as
            :data:`prunecast.recover.training.PASSES`.
        estimated: number of those that are an estimate, because they depend on data and tokenizer: those of questions,
            by their evaluator, and those of instructions, as if all were as long as they may be.
        uncounted: evaluations and trainings of which not even that is known; their tokens come on top.
        petaflop: operations of a forward pass over the tokens, 2 a multiply-accumulate of the dense model, in 10^15;
            attention sees as many tokens as evaluator or training give the model at once.
    """

    stage: str
    architectures: int
    evaluations: int
    tokens: int
    estimated: int
    uncounted: int
    petaflop: float


@dataclass(frozen=True)
class Estimate:
    """All stages of a run in order, for a model of ``parameters`` parameters and a space of ``choices`` choices.

    Attributes:
        memory: what each placement of the weights needs; a dtype of ``auto`` counts as bfloat16.
    """

    parameters: int
    choices: int
    stages: tuple[EstimatedStage, ...]
    memory: Mapping[Placement, Need]

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "parameters": self.parameters,
            "choices": self.choices,
            "stages": [asdict(stage) for stage in self.stages],
            "memory": {placement: asdict(need) for placement, need in self.memory.items()},
        }


def estimate(spec: Spec, host: PluginHost) -> Estimate:
    """Estimate a spec from its ``model.config``. Of data, only instructions to train on are read, to be counted.

    Raises:
        ModelError: there is no such file, it is not a config, or its family is not described.
        BudgetError: the space has nothing that meets the budget.
    """
    problem = _problem(spec, host)
    meter = _Meter(spec, host, problem)
    planned = stages_of(spec, spec.collect.pairs, problem.whole_layers)
    stages = [meter.stage(stage) for stage in _rounds_together(planned)]
    itemsize = 4 if spec.model.dtype == "float32" else 2
    needs = Work.of(spec, spec.pruner.instance(host), problem.shape, itemsize).needs()
    return Estimate(problem.dense_count("parameters"), len(problem.space.choices), tuple(stages), needs)


def _rounds_together(stages: Sequence[Stage]) -> list[Stage]:
    """The stages with all rounds as one."""
    together = []
    for is_round, several in groupby(stages, key=lambda stage: stage.name.startswith(f"{ROUND} ")):
        if is_round:
            first, *others = several
            count = first.architectures + sum(other.architectures for other in others)
            together.append(replace(first, name=f"{ROUND}s", architectures=count))
        else:
            together += several
    return together


@dataclass(frozen=True)
class _Reading:
    """Tokens of one evaluation, None if not known; how many are read at once; and if their number is an estimate."""

    tokens: int | None
    context: int
    estimated: bool


class _Meter:
    """Counts the tokens of stages: by the options of evaluators, else by their expected tokens."""

    def __init__(self, spec: Spec, host: PluginHost, problem: Problem) -> None:
        self._spec, self._host, self._problem = spec, host, problem
        verified = spec.verify.evaluators
        self._uses = {
            "searched": spec.evaluators,
            "verified": [*spec.evaluators, *verified],
            "verified only": verified,
        }

    def stage(self, stage: Stage) -> EstimatedStage:
        """Tokens of a stage."""
        architectures = stage.cost * stage.architectures
        readings = [self._reading(use) for use in self._uses[stage.evaluators]]
        metered = EstimatedStage(
            stage=stage.name,
            architectures=architectures,
            evaluations=architectures * len(readings),
            tokens=architectures * sum(each.tokens or 0 for each in readings),
            estimated=architectures * sum(each.tokens or 0 for each in readings if each.estimated),
            uncounted=architectures * sum(each.tokens is None for each in readings),
            petaflop=architectures * sum(self._petaflop(each.tokens or 0, each.context) for each in readings),
        )
        return self._with_training(metered) if stage.name == RECOVER else metered

    def _with_training(self, stage: EstimatedStage) -> EstimatedStage:
        """The stage of the recovery with the tokens of the training."""
        options = self._spec.recover
        if options is None:
            return stage
        try:
            with reading(self._spec.reading):
                steps = planned_steps(options, self._spec.data_path)
        except DataError:
            return replace(stage, uncounted=stage.uncounted + 1)
        tokens = PASSES * steps * options.batch * options.tokens
        return replace(
            stage,
            tokens=stage.tokens + tokens,
            estimated=stage.estimated + (0 if isinstance(options, DistillRecovery) else tokens),
            petaflop=stage.petaflop + self._petaflop(tokens, options.tokens),
        )

    def _petaflop(self, tokens: int, context: int) -> float:
        """Operations of a forward pass over tokens that are read ``context`` at once."""
        return tokens * 2 * self._problem.dense_count("macs", context) / 1e15

    def _reading(self, use: EvaluatorUse) -> _Reading:
        evaluator, given = use.instance(self._host), getattr(use.options, "tokens", None)
        with isolated(str(self._host.find(use.kind, use.use)), "expected_tokens"):
            return _Reading(
                tokens=evaluator.expected_tokens if given is None else given,
                context=evaluator.expected_context,
                estimated=given is None,
            )


def _problem(spec: Spec, host: PluginHost) -> Problem:
    path = spec.config_path
    if path is None:
        raise ModelError("model.config: name the config.json of the model to estimate a run without it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = config_of(content, spec.families, str(path))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"model.config: {path} is no model config ({reason}): name a config.json") from error
    family = spec.families.of(config)
    return Problem.for_model(spec, host, config, family, shape_of(config, family))
