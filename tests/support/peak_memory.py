"""``python peak_memory.py SPEC`` measures 20 architectures of a spec and prints two numbers of bytes.

The peak of the process' own memory above its memory before loading weights; and the size of the weights. Mapped pages
of the weights' file are not counted: the kernel reclaims them when memory is short.
"""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import transformers.models.llama.modeling_llama  # noqa: F401  # code, not weights

from prunecast.architecture.choices import architectures_at
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.spec.load import load_spec

SECONDS = 0.002
"""Sampling interval, in seconds."""


def own_memory() -> int:
    """Bytes of resident memory that is not backed by a file."""
    (kilobytes,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kilobytes)


@contextmanager
def watched() -> Iterator[list[int]]:
    """Peak of the process' own memory, sampled by a thread."""
    most, done = [own_memory()], threading.Event()

    def watch() -> None:
        while not done.wait(SECONDS):
            most[0] = max(most[0], own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def main(spec: str) -> None:
    """Measure and print."""
    host = PluginHost.discover()
    setup = Setup(load_spec(spec, host), host)
    evaluator, choices = setup.evaluators[0].evaluator, setup.problem.space.choices
    sampled = setup.problem.space.sample(20, np.random.default_rng(0))
    start = own_memory()
    with watched() as most, torch.inference_mode():
        elastic = build_elastic(setup, Progress(quiet=True))
        for architecture in architectures_at(choices, setup.shape.dense, sampled):
            elastic.apply(architecture)
            evaluator.evaluate(elastic.model)
    print(most[0] - start, sum(parameter.nbytes for parameter in elastic.model.parameters()))


if __name__ == "__main__":
    main(sys.argv[1])
