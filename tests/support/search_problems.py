"""Search problems over a small space."""

from collections.abc import Callable
from typing import Any

import numpy as np

from prunecast.architecture.budget import Budget
from prunecast.architecture.shape import ModelShape
from prunecast.plugins.interfaces import SearchProblem
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions


def problem_of(shape: ModelShape, score: Callable[..., Any], **changes: Any) -> SearchProblem:
    space = changes.pop("space", None) or Layerwise(LayerwiseOptions(attention=(0, 0.33, 0.67, 1)), shape)
    budget = Budget.of(shape, {"parameters": changes.pop("share", 0.7)})
    rng = np.random.default_rng(changes.pop("seed", 0))
    return SearchProblem(space=space, budget=budget, score=score, rng=rng, **changes)
