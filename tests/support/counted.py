"""An evaluator that logs every evaluation it makes, and a process that runs a spec with it."""

import os
import time
from pathlib import Path
from typing import Any

from prunecast.plugins.hookspecs import Entry, hookimpl
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import Measurement
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.run.runner import run
from prunecast.spec.load import load_spec
from prunecast_plugins.evaluators.perplexity import Perplexity

LOG = Path("evaluations.log")


class Counted(Perplexity):
    """Perplexity that writes a line for every evaluation it makes."""

    def evaluate(self, model: Any) -> list[Measurement]:
        time.sleep(0.2)  # long enough for the other process to request the same evaluation
        found = super().evaluate(model)
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, f"{os.getpid()} {found[0].metric.name} {found[0].value!r}\n".encode())
        os.close(log)
        return found


class CountedPlugin:
    @hookimpl
    def prunecast_evaluators(self) -> list[Entry]:
        return [Entry("counted", "counted:Counted", "counts its evaluations")]


def main() -> None:
    """Run ``counted.yaml`` and print the best architecture."""
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    host = PluginHost.discover()
    host.manager.register(CountedPlugin(), "counted")
    Path(f"{os.getpid()}.ready").touch()
    while len(list(Path().glob("*.ready"))) < 2:
        time.sleep(0.01)
    with Registry.open("registry.db") as registry:
        result = run(load_spec("counted.yaml", host), host, registry, Progress(quiet=True))
    print(result.best.architecture, result.measured, sep="|")
