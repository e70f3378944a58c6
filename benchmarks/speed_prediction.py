"""Predicted and measured speed of ten architectures, as ratios to the dense model.

Usage: ``python benchmarks/speed_prediction.py [MODEL] [CONTEXT] [ROUNDS]``, on one thread with ``OMP_NUM_THREADS=1``.

The table of measured components is that of the space ``layerwise``. The ten architectures are random ones of this
space at six budgets, two uniform ones, and two that lose whole layers. The model of each is timed in turns with the
dense one, so that a slow time of the machine slows both: on a busy machine the time of the dense model, by which all
ratios divide, is otherwise the largest error.
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch

from prunecast.architecture.architecture import Architecture, Floats
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
    ratios = ratios_to_dense(models, shape, chosen, work, int(rounds))
    kept = timed.count([shape.dense, *chosen], "parameters_without_embeddings")
    print(f"{model}, context {context}, batch 1, float32, {torch.get_num_threads()} thread(s)")
    for column, speed in enumerate(SPEEDS):
        predicted = timed.count([shape.dense, *chosen], speed)
        expected, found = predicted / predicted[0], np.array([1.0, *ratios[:, column]])
        print(f"{speed}: kept, predicted, measured, error; dense predicted {predicted[0] / 1e6:.1f} ms")
        for row in zip(kept / kept[0], expected, found, expected / found - 1, strict=True):
            print("  {:6.1%}  {:.3f}  {:.3f}  {:+.1%}".format(*row))
        worst = abs(expected / found - 1).max()
        print(f"  at most {worst:.1%}, which is {'within' if worst <= TARGET else 'beyond'} {TARGET:.0%}")


def ratios_to_dense(
    models: TimedModels, shape: ModelShape, architectures: Sequence[Architecture], work: Workload, rounds: int
) -> Floats:
    """Times of N architectures relative to the dense model, each timed in turns with it: prefill, decode; (N, 2)."""
    ratios = []
    for each in architectures:
        best = models.best_times([shape.dense, each], work, rounds)
        ratios.append(np.array(best[each]) / np.array(best[shape.dense]))
    return np.stack(ratios)


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
