"""``python peak_memory.py SPEC`` measures 20 architectures of a spec and prints two numbers of bytes.

The peak of the process' resident memory, above what it has before anything of the weights is loaded; and the weights.
"""

import re
import sys
from pathlib import Path

import numpy as np
import torch
import transformers.models.llama.modeling_llama  # noqa: F401  # code, not weights

from prunecast.choices import architectures_at
from prunecast.pipeline.elastic import build_elastic
from prunecast.pipeline.progress import Progress
from prunecast.pipeline.setup import Setup
from prunecast.plugins import PluginHost
from prunecast.spec.load import load_spec


def resident(field: str) -> int:
    """Bytes of resident memory: ``VmRSS`` now, ``VmHWM`` at most so far."""
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kilobytes)


def main(spec: str) -> None:
    """Measure and print."""
    host = PluginHost.discover()
    setup = Setup(load_spec(spec, host), host)
    evaluator, choices = setup.evaluators[0].evaluator, setup.space.choices
    sampled = setup.space.sample(20, np.random.default_rng(0))
    start = resident("VmRSS")
    elastic = build_elastic(setup, Progress(quiet=True))
    with torch.inference_mode():
        for architecture in architectures_at(choices, setup.shape.dense, sampled):
            elastic.apply(architecture)
            evaluator.evaluate(elastic.model)
    print(resident("VmHWM") - start, sum(parameter.nbytes for parameter in elastic.model.parameters()))


if __name__ == "__main__":
    main(sys.argv[1])
