"""Pareto front of speed and perplexity of a model at three sizes, as ratios to the dense model.

Usage: ``python benchmarks/speed_front.py [MODEL] [METRIC] [CONTEXT] [ROUNDS] [REGISTRY]``, on one thread with
``OMP_NUM_THREADS=1``.

The architectures and their perplexities are those of a registry, by the evaluator with most of them. Their times are
predicted from a table of components that is measured first, in float32. At each size, which is a share of the time of
the dense model, the best architecture that is not slower is timed as a whole, in turns with the dense model and with
the best uniform one of the registry that is not slower.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from speed_prediction import subject_of

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.shape import ModelShape
from prunecast.architecture.speed import SPEEDS
from prunecast.measure.component_times import Workload, component_times
from prunecast.measure.device import choose_device, device_name
from prunecast.registry import Registry
from prunecast.registry.queries.pareto import undominated
from prunecast.registry.queries.selection import Filter, query

SIZES = (0.8, 0.6, 0.45)
"""Shares of the time of the dense model."""


@dataclass(frozen=True)
class Recorded:
    """N measured architectures, the dense one first.

    Attributes:
        architectures: the architectures.
        values: their metric, relative to the dense model, shape (N,).
        evaluator: what measured it.
    """

    architectures: list[Architecture]
    values: Floats
    evaluator: str


def recorded(path: str, model: str, metric: str, shape: ModelShape) -> Recorded:
    """Architectures of the evaluator with most of them; the best value of each under any pruner and dtype."""
    with Registry.open(path, readonly=True) as registry:
        rows = query(registry, Filter(model=model, metrics=(metric,)))
    by_evaluator: dict[str, dict[Architecture, float]] = {}
    for row in rows:
        values = by_evaluator.setdefault(row[f"{metric}.evaluator"], {})
        architecture = Architecture.parse(row["architecture"])
        values[architecture] = min(row[metric], values.get(architecture, np.inf))
    evaluator, values = max(by_evaluator.items(), key=lambda each: len(each[1]))
    found = [shape.dense, *(each for each in values if each != shape.dense)]
    return Recorded(found, np.array([values[each] for each in found]) / values[shape.dense], evaluator)


def is_uniform(architecture: Architecture, shape: ModelShape) -> bool:
    """True if all layers that are not as in the dense model are alike, but for one channel or one more."""
    layers = zip(architecture.layers, shape.dense.layers, strict=True)
    changed = {layer[:2]: layer.mlp_width for layer, dense in layers if layer != dense}
    widths = [layer.mlp_width for layer in architecture.layers if layer not in shape.dense.layers]
    return len(changed) == 1 and max(widths) - min(widths) <= 1


def chosen(found: Recorded, shares: Floats, size: float, among: Sequence[int]) -> int | None:
    """Position of the best architecture that takes at most a share ``size`` of the time; None if there is none."""
    fitting = [place for place in among if shares[place] <= size]
    return min(fitting, key=lambda place: found.values[place], default=None)


def main(
    model: str = "smollm2-135m",
    metric: str = "wikitext2.test.ppl",
    context: str = "256",
    rounds: str = "5",
    path: str = "registry.db",
) -> None:
    """Measure the table, choose architectures, time them, and print the front."""
    models, shape, space = subject_of(model)
    found = recorded(path, model, metric, shape)
    work = Workload(1, int(context), torch.float32, choose_device("auto"))
    timed = shape.with_speeds(component_times(models, shape, space.choices, work, int(rounds)))
    counts = [timed.count(found.architectures, speed) for speed in SPEEDS]
    predicted = np.stack([count / count[0] for count in counts], axis=1)
    kept = shape.count(found.architectures) / shape.count([shape.dense])[0]
    uniform = [n for n, each in enumerate(found.architectures) if is_uniform(each, shape)]
    print(
        f"{model}: {len(found.architectures)} architectures with {metric} by {found.evaluator}; batch 1, context "
        f"{context}, float32, {torch.get_num_threads()} thread(s) of {device_name(work.device)}"
    )
    everything = range(len(found.architectures))
    picks = [
        (speed, size, kind, place)
        for column, speed in enumerate(SPEEDS)
        for size in SIZES
        for kind, among in (("found", everything), ("uniform", uniform))
        if (place := chosen(found, predicted[:, column], size, among)) is not None
    ]
    places = list(dict.fromkeys([0, *(place for *_, place in picks)]))
    best = models.best_times([found.architectures[place] for place in places], work, int(rounds))
    times = np.array(list(best.values()), dtype=np.float64)
    measured = dict(zip(places, times / times[0], strict=True))
    print(f"dense: {', '.join(f'{each / 1e6:.1f} ms' for each in times[0])}")
    print("at most      which    kept    prefill: predicted measured  decode: predicted measured  perplexity")
    for speed, size, kind, place in picks:
        (prefill, decode), (own_prefill, own_decode) = predicted[place], measured[place]
        print(
            f"{size:.2f} {speed:10} {kind:8} {kept[place]:6.1%} {prefill:18.3f} {own_prefill:8.3f} {decode:18.3f} "
            f"{own_decode:8.3f} {found.values[place]:11.3f}"
        )
    for column, speed in enumerate(SPEEDS):
        front = undominated(np.stack([predicted[:, column], found.values], axis=1))
        points = sorted(zip(predicted[front, column].tolist(), found.values[front].tolist(), strict=True), reverse=True)
        print(
            f"front of predicted {speed} and perplexity, of dense: {'  '.join(f'{x:.2f}/{y:.2f}' for x, y in points)}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
