"""Baselines that are built at a size, without any measurement."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Choice
from prunecast.compare.depth import before_last
from prunecast.compare.uniform import uniform


@dataclass(frozen=True)
class BuiltBaseline:
    """A baseline that is built.

    Attributes:
        name: its name in a spec.
        compensated: True if the pruner's compensation is applied.
        build: the architecture for the choices of a space and a budget that limits the parameters.
    """

    name: str
    compensated: bool
    build: Callable[[Sequence[Choice], Budget], Architecture]

    @classmethod
    def named(cls, name: str) -> "BuiltBaseline | None":
        """The baseline called ``name``; None if that is another kind of baseline."""
        return next((each for each in BUILT_BASELINES if each.name == name), None)


def _uniform(choices: Sequence[Choice], budget: Budget, *, attention: bool) -> Architecture:
    return uniform(budget.shape, choices, budget.limits["parameters"], attention=attention)


BUILT_BASELINES = (
    *(
        BuiltBaseline(f"uniform{mlp}{without}", not without, partial(_uniform, attention=not mlp))
        for mlp in ("", "-mlp")
        for without in ("", "-uncompensated")
    ),
    BuiltBaseline("depth-last", True, before_last),
)
