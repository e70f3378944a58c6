"""A local plugin: an evaluator that harms the process it is in, as its option ``mood`` says, wherever it is called."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from prunecast.plugins import Entry, hookimpl
from prunecast.plugins.interfaces import Measurement
from prunecast_plugins.evaluators.perplexity import Perplexity
from prunecast_plugins.evaluators.windows import WindowOptions


class LethalOptions(WindowOptions):
    mood: str = ""
    log: str = "calls.log"


class Lethal(Perplexity):
    """Perplexity. At some calls, counted over all processes, or for some architectures, something terrible happens."""

    options_model = LethalOptions

    def evaluate(self, model: Any) -> list[Measurement]:
        options: Any = self.options
        log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, f"{os.getpid()}\n".encode())
        os.close(log)
        calls = len(Path(options.log).read_text().splitlines())
        found = super().evaluate(model)
        if options.mood == "sometimes" and calls % 7 == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.mood == "hangs" and calls == 6:
            time.sleep(1000)
        if options.mood == "poison" and int(found[0].value * 1e6) % 11 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.mood == "memory" and calls == 6:
            torch.empty(2**60, dtype=torch.int8)
        if options.mood == "slow":
            time.sleep(0.5)
        return found


@hookimpl
def prunecast_evaluators() -> list[Entry]:
    return [Entry("lethal", f"{__name__}:Lethal", "harms its process")]
