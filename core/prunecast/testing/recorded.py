"""Recorded measurements for checks of predictors: pairs of SmolLM2-135M from the registry of the repository."""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.shape import ModelShape
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry import Evaluation, ModelRecord, PluginRecord, Registry, Setting
from prunecast.registry.records import shape_from_json


@dataclass(frozen=True)
class RecordedPairs:
    """Measured architectures of one model.

    Attributes:
        shape: the dense model.
        architectures: N architectures.
        metrics: names of the M targets.
        targets: shape (N, M), natural logarithms of perplexities, which is the scale that predictors are fitted on.
        conditions: description of model, pruner, data and metrics.
    """

    shape: ModelShape
    architectures: list[Architecture]
    metrics: tuple[str, ...]
    targets: Floats
    conditions: str


@cache
def recorded_pairs() -> RecordedPairs:
    """The pairs that come with the package. They are cached and shared, so the targets are read-only."""
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


def record_pairs(registry: Registry) -> None:
    """Write the recorded pairs into a registry as a run named ``recorded``, each metric under its own setting."""
    pairs = recorded_pairs()
    model = ModelRecord("0" * 32, "smollm2-135m", pairs.shape)
    pruner = PluginRecord("recorded", 1, {}, None, "prunecast.testing")
    run = registry.start_run("0" * 32, "recorded", "{}", "").id
    for column, name in enumerate(pairs.metrics):
        evaluator = PluginRecord("perplexity", 1, {"dataset": name.partition(".")[0]}, None, "prunecast.testing")
        setting = Setting(model, pruner, evaluator, "bfloat16")
        metric = Metric(name, "minimize", "perplexity", "log")
        logarithms = pairs.targets[:, column].tolist()
        evaluations = [
            Evaluation(setting, architecture, [Measurement(metric, math.exp(logarithm), None, 4096)], 0.0, "cpu")
            for architecture, logarithm in zip(pairs.architectures, logarithms, strict=True)
        ]
        registry.record_many(run, "pairs", evaluations)
    registry.finish_run(run, "finished", None)
