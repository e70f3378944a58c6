"""The search problem: what a spec asks of a model. No weight, no text and no torch belong to it."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.shape import ModelShape, Quantity
from prunecast.architecture.speed import SPEEDS
from prunecast.plugins.exporter import Limits
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import Predictor, SearchSpace
from prunecast.problem.limits import LimitedSpace, limits_of, problem_of
from prunecast.problem.objective import Objective
from prunecast.spec.load import error_at
from prunecast.spec.model import Spec
from prunecast.spec.stages import DEPTH_BASELINES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from prunecast.models.families.family import Family

NewPredictor = Callable[[ModelShape], Predictor[Any]]
"""Makes a predictor that has not been fitted, for a model of a shape."""


@dataclass(frozen=True)
class Problem:
    """All that the search, the predictors and the baselines need to know of a spec and its model.

    Attributes:
        shape: sizes of the dense model.
        space: the search space.
        budget: what an architecture has to meet.
        objective: what is minimised.
        seed: seed of everything random.
        new_predictor: makes the spec's predictor, without knowledge of other models.
        limits: what the targets of the export can express; the space has been cut to them.
        warm_predictor: makes the spec's predictor with the pairs of other models in it; None without a warm start.
    """

    shape: ModelShape
    space: SearchSpace[Any]
    budget: Budget
    objective: Objective
    seed: int
    new_predictor: NewPredictor
    limits: tuple[Limits, ...] = ()
    warm_predictor: Callable[[], Predictor[Any]] | None = None

    @classmethod
    def of(cls, spec: Spec, host: PluginHost, shape: ModelShape) -> "Problem":
        """Problem of a spec for a model of ``shape``; its objective is empty until :meth:`minimising` names one.

        Limits of speeds are left out where the shape has no measured times.

        Raises:
            PluginError: a plugin of the spec cannot be made.
            SpecError: the budget's context is longer than the model's, or a baseline drops whole layers, which are no
                choices of the space.
            BudgetError: no architecture of the space meets the budget.
        """
        space: SearchSpace[Any] = spec.space.instance(host, shape)
        context = spec.budget.context
        if context is not None and context > shape.context:
            longer = f"{context:,} is longer than the model's context: set it to {shape.context:,} or less"
            raise error_at(spec, ("budget", "context"), longer)
        limits = spec.budget.limits
        if shape.speeds is None:
            limits = {quantity: limit for quantity, limit in limits.items() if quantity not in SPEEDS}
        budget = Budget.of(shape, limits, context)
        budget.check(space.choices)

        def new_predictor(model: ModelShape) -> Predictor[Any]:
            predictor: Predictor[Any] = spec.predictor.instance(host, model, spec.seed)
            return predictor

        problem = cls(shape, space, budget, Objective((), ()), spec.seed, new_predictor)
        problem._check_baselines(spec)
        return problem

    @classmethod
    def for_model(
        cls, spec: Spec, host: PluginHost, config: "PreTrainedConfig", family: "Family", shape: ModelShape
    ) -> "Problem":
        """Problem of a spec for a model whose config is at hand, within the limits of the targets of its export.

        Raises:
            PluginError, SpecError, BudgetError: as for :meth:`of`; SpecError if a target has no form for the model.
            ModelError: the targets leave nothing to choose.
        """
        return cls.of(spec, host, shape).within(limits_of(spec, host, config, family, shape))

    def _check_baselines(self, spec: Spec) -> None:
        for place, name in enumerate(spec.baselines):
            if name in DEPTH_BASELINES and not self.whole_layers:
                needed = f"{name} drops whole layers, which space {spec.space.use} has no choices of: use space depth"
                raise error_at(spec, ("baselines", place), f"{needed}, or leave {name} out")

    @property
    def whole_layers(self) -> int:
        """Number of choices of whole layers."""
        return sum(choice.component == "layer" for choice in self.space.choices)

    def minimising(self, objective: Objective) -> "Problem":
        """The same problem with another objective."""
        return replace(self, objective=objective)

    def within(self, limits: tuple[Limits, ...]) -> "Problem":
        """The same problem without the architectures that are beyond some limits.

        Raises:
            ModelError: nothing is left to choose.
            BudgetError: no architecture that is left meets the budget.
        """
        if not limits:
            return self
        space = LimitedSpace(self.space, limits)
        self.budget.check(space.choices)
        return replace(self, space=space, limits=limits)

    def allows(self, architecture: Architecture) -> bool:
        """True if every target of the export can express an architecture."""
        return problem_of(self.limits, architecture) is None

    def over(self, space: SearchSpace[Any]) -> "Problem":
        """The same problem over another search space, such as a refined one."""
        return replace(self, space=space)

    def predictor(self) -> Predictor[Any]:
        """A predictor that has not been fitted on this model; a warm one if there is a warm start."""
        return self.new_predictor(self.shape) if self.warm_predictor is None else self.warm_predictor()

    def rng(self, stage: str, number: int = 0) -> np.random.Generator:
        """Random generator of one step of a stage: a function of the seed, the stage and the number alone."""
        return np.random.default_rng([self.seed, zlib.crc32(stage.encode()), number])

    def dense_count(self, quantity: Quantity, context: int | None = None) -> int:
        """``quantity`` of the dense model, at a context in tokens if it is shorter than the model's own."""
        shape = self.shape.at(None if context is None else min(context, self.shape.context))
        return int(shape.count([shape.dense], quantity)[0])
