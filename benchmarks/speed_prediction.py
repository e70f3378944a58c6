"""Predicted and measured speed of ten architectures, as ratios to the dense model.

Usage: ``python benchmarks/speed_prediction.py [MODEL] [CONTEXT] [ROUNDS]``, on one thread with ``OMP_NUM_THREADS=1``.

The table of measured components is that of the space ``layerwise``. The ten architectures are random ones of this
space at six budgets, two uniform ones, and two that lose whole layers; their models are timed one after the other, in
turns with the dense one.
"""

import sys

import numpy as np
import torch

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import architectures_at
from prunecast.architecture.shape import ModelShape
from prunecast.architecture.speed import SPEEDS
from prunecast.measure.component_times import TimedModels, Workload, component_times
from prunecast.measure.device import choose_device
from prunecast.models.described import described
from prunecast.models.families.sizes import shape_of
from prunecast.models.source import resolve_source
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost
from prunecast_plugins.spaces.layerwise import Layerwise

TARGET = 0.05


def subject_of(model: str) -> tuple[TimedModels, ModelShape, Layerwise]:
    """The models to time, the sizes of the dense one, and the space whose sizes the table has."""
    families = families_of(PluginHost.discover())
    config, family = described(resolve_source(model, None, trust_remote_code=False), families)
    shape = shape_of(config, family)
    options = Layerwise.options_model(attention=[0.0, 0.34, 0.67, 1.0], mlp=[0.0, 0.25, 0.5, 0.75, 1.0])
    return TimedModels(config, family, families), shape, Layerwise(options, shape)


def main(model: str = "smollm2-135m", context: str = "256", rounds: str = "5") -> None:
    """Measure the table and the models, and print how far the one is from the other."""
    models, shape, space = subject_of(model)
    work = Workload(1, int(context), torch.float32, choose_device("auto"))
    timed = shape.with_speeds(component_times(models, shape, space.choices, work, int(rounds)))
    chosen = ten_architectures(space, shape)
    best = models.best_times([shape.dense, *chosen], work, int(rounds))
    kept = timed.count([shape.dense, *chosen], "parameters_without_embeddings")
    print(f"{model}, context {context}: dense {', '.join(f'{each / 1e6:.1f} ms' for each in best[shape.dense])}")
    for column, speed in enumerate(SPEEDS):
        predicted = timed.count([shape.dense, *chosen], speed)
        measured = np.array([times[column] for times in best.values()])
        expected, found = predicted / predicted[0], measured / measured[0]
        print(f"{speed}: kept, predicted, measured, error; dense predicted {predicted[0] / 1e6:.1f} ms")
        for row in zip(kept / kept[0], expected, found, expected / found - 1, strict=True):
            print("  {:6.1%}  {:.3f}  {:.3f}  {:+.1%}".format(*row))
        worst = abs(expected / found - 1).max()
        print(f"  at most {worst:.1%}, which is {'within' if worst <= TARGET else 'beyond'} {TARGET:.0%}")


def ten_architectures(space: Layerwise, shape: ModelShape) -> list[Architecture]:
    """Six random ones at as many budgets, two with narrower MLPs and two without some layers."""
    rng, chosen = np.random.default_rng(0), []
    for share in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        budget = Budget.of(shape, {"parameters_without_embeddings": share})
        indices = budget.fit(space.choices, space.sample(1, rng), rng)
        chosen += architectures_at(space.choices, shape.dense, indices)
    dense = shape.dense.layers
    chosen += [
        Architecture([(each.kv_groups, each.heads_per_group, int(each.mlp_width * share)) for each in dense])
        for share in (0.6, 0.3)
    ]
    chosen += [
        Architecture([(0, 0, 0) if layer % every == 1 else each for layer, each in enumerate(dense)])
        for every in (5, 3)
    ]
    return chosen


if __name__ == "__main__":
    main(*sys.argv[1:])
