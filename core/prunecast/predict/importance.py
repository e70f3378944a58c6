"""How much each choice matters, according to a predictor."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Floats
from prunecast.architecture.choices import Choice, Component, Indices, architectures_at
from prunecast.measure.setup import Setup
from prunecast.plugins.interfaces import SearchSpace
from prunecast.predict.fitted import Fitted

BACKGROUND = 32
"""Architectures that every choice is varied in."""


@dataclass(frozen=True)
class ChoiceImportance:
    """How much one choice matters.

    Attributes:
        choice: its name.
        component, layers: what it decides about.
        shares: by metric, its share of what all choices explain: at least 0, and 1 in all over the choices of a space.
    """

    choice: str
    component: Component
    layers: tuple[int, ...]
    shares: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def importances(setup: Setup, fitted: Fitted) -> list[ChoiceImportance]:
    """Importance of every choice of the spec's space, in its order.

    A predictor that knows its own (the paper reads them off its trees, arXiv 2309.09507, section 4) is asked for them;
    of any other the prediction is varied.
    """
    choices, names = setup.space.choices, [metric.name for metric in setup.objective.metrics]
    own = fitted.predictor.importances()
    amounts = _varied(setup.space, fitted, _background(setup)) if own is None else _of_choices(choices, np.asarray(own))
    totals = amounts.sum(axis=0)
    shares = np.divide(amounts, totals, out=np.full_like(amounts, 1 / len(choices)), where=totals > 0)
    return [
        ChoiceImportance(choice.name, choice.component, choice.layers, dict(zip(names, row, strict=True)))
        for choice, row in zip(choices, shares.tolist(), strict=True)
    ]


def _varied(space: SearchSpace[Any], fitted: Fitted, background: Indices) -> Floats:
    """Total-effect variances of the prediction, shape (C, M).

    Of each architecture of the background, one choice takes all of its values while the others stay; the variance over
    the values, averaged over the background, is the numerator of the total-effect index of Homma and Saltelli (1996):
    what the choice explains by itself and together with others.
    """
    amounts = []
    for column, choice in enumerate(space.choices):
        varied = np.repeat(background, len(choice.values), axis=0)
        varied[:, column] = np.tile(np.arange(len(choice.values)), len(background))
        mean = fitted.predictor.predict(architectures_at(space.choices, space.shape.dense, varied)).mean
        amounts.append(mean.reshape(len(background), len(choice.values), -1).var(axis=1).mean(axis=0))
    return np.array(amounts)


def _background(setup: Setup) -> Indices:
    """Proposals of the space where the search looks: at the budget, if there is one."""
    rng = setup.rng("importance")
    return setup.budget.fit(setup.space.choices, setup.space.sample(BACKGROUND, rng), rng)


def _of_choices(choices: Sequence[Choice], own: Floats) -> Floats:
    """A predictor's importances of components of layers, shape (L, 2, M), summed over the layers of each choice."""
    parts: dict[Component, int] = {"attention": 0, "mlp": 1}
    return np.array([own[list(choice.layers), parts[choice.component]].sum(axis=0) for choice in choices])
