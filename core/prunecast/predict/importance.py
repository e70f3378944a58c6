"""Importance of each choice, according to a predictor.

Notation: C choices, L layers, M metrics, V values of one choice, B architectures of the background.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from prunecast.architecture.architecture import Floats
from prunecast.architecture.choices import Choice, Component, Indices, architectures_at
from prunecast.plugins.interfaces import SearchSpace
from prunecast.predict.fitted import Fitted
from prunecast.problem.problem import Problem

BACKGROUND = 32
"""B: architectures that every choice is varied in."""


@dataclass(frozen=True)
class ChoiceImportance:
    """Importance of one choice.

    Attributes:
        choice: its name.
        component, layers: what it decides about.
        shares: by metric, its share of what all choices explain: at least 0, and 1 in all over the choices of a space.
    """

    choice: str
    component: Component | Literal["layer"]
    layers: tuple[int, ...]
    shares: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def importances(problem: Problem, fitted: Fitted) -> list[ChoiceImportance]:
    """Importance of every choice of the problem's space, in its order.

    A predictor may provide importances of its own (the paper reads them off its trees, arXiv 2309.09507, section 4);
    for any other the prediction is varied choice by choice.
    """
    choices, names = problem.space.choices, [metric.name for metric in fitted.objective.metrics]
    own = fitted.predictor.importances()
    if own is None:
        explained = _explained_variances(problem.space, fitted, _background(problem))
    else:
        explained = _summed_over_layers(choices, np.asarray(own))
    totals = explained.sum(axis=0)
    shares = np.divide(explained, totals, out=np.full_like(explained, 1 / len(choices)), where=totals > 0)
    return [
        ChoiceImportance(choice.name, choice.component, choice.layers, dict(zip(names, row, strict=True)))
        for choice, row in zip(choices, shares.tolist(), strict=True)
    ]


def _explained_variances(space: SearchSpace[Any], fitted: Fitted, background: Indices) -> Floats:
    """Total-effect variances of the prediction, shape (C, M).

    In each architecture of the background, one choice takes all of its values while the others stay. The variance over
    the values, averaged over the background, is the numerator of the total-effect index of Homma and Saltelli (1996):
    what the choice explains by itself and together with others.
    """
    explained = []
    for column, choice in enumerate(space.choices):
        varied = np.repeat(background, len(choice.values), axis=0)
        varied[:, column] = np.tile(np.arange(len(choice.values)), len(background))
        mean = fitted.predictor.predict(architectures_at(space.choices, space.shape.dense, varied)).mean
        explained.append(mean.reshape(len(background), len(choice.values), -1).var(axis=1).mean(axis=0))
    return np.array(explained)


def _background(problem: Problem) -> Indices:
    """Proposals of the space in the region of the search: at the budget, if there is one. Shape (B, C)."""
    rng = problem.rng("importance")
    return problem.budget.fit(problem.space.choices, problem.space.sample(BACKGROUND, rng), rng)


def _summed_over_layers(choices: Sequence[Choice], own: Floats) -> Floats:
    """A predictor's importances of components of layers, shape (L, 2, M), summed over the layers of each choice."""
    parts: Mapping[Component | Literal["layer"], Sequence[int]] = {"attention": [0], "mlp": [1], "layer": [0, 1]}
    return np.array(
        [sum(own[list(choice.layers), part].sum(axis=0) for part in parts[choice.component]) for choice in choices]
    )
