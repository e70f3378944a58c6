"""Real measurements to try predictors on: pairs of SmolLM2-135M, from the registry that comes with the repository."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from prunecast.architecture import Architecture
from prunecast.interfaces import Floats
from prunecast.registry.records import shape_from_json
from prunecast.shape import ModelShape


@dataclass(frozen=True)
class RecordedPairs:
    """Measured architectures of one model.

    Attributes:
        shape: the dense model.
        architectures: N architectures.
        metrics: names of the M targets.
        targets: shape (N, M), on the scale that predictors learn: logarithms of perplexities.
        conditions: what was measured, on what, and how.
    """

    shape: ModelShape
    architectures: list[Architecture]
    metrics: tuple[str, ...]
    targets: Floats
    conditions: str


@cache
def recorded_pairs() -> RecordedPairs:
    """The pairs that come with the package. Do not change the arrays: they are shared."""
    stored = json.loads(files("prunecast.testing").joinpath("recorded.json").read_text(encoding="utf-8"))
    targets = np.array([row["targets"] for row in stored["pairs"]], dtype=np.float64)
    targets.flags.writeable = False
    return RecordedPairs(
        shape=shape_from_json(json.dumps(stored["shape"])),
        architectures=[Architecture.parse(row["architecture"]) for row in stored["pairs"]],
        metrics=tuple(stored["metrics"]),
        targets=targets,
        conditions=stored["conditions"],
    )
