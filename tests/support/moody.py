"""An evaluator that fails in the way that its option ``mood`` names."""

from collections.abc import Collection
from typing import Any, ClassVar, Literal

import torch

from prunecast.plugins.hookspecs import Entry, hookimpl
from prunecast.plugins.interfaces import Measurement
from prunecast_plugins.evaluators.perplexity import Perplexity
from prunecast_plugins.evaluators.windows import WindowOptions

OWNER = "evaluator 'moody' of moody -"


TOO_MUCH = 2**60
"""Bytes that no process can address, so that allocating them fails at once."""


class MoodyOptions(WindowOptions):
    mood: Literal[
        "raises", "nan", "other-metric", "device", "processor", "python", "processor-later", "crowded", "hopeless"
    ]


class OwnBatchOptions(MoodyOptions):
    immaterial: ClassVar[frozenset[str]] = frozenset()


class Moody(Perplexity):
    """Perplexity that fails for about every third architecture, always for the same ones."""

    options_model = MoodyOptions
    batches: list[int] = []
    crowded: Collection[int] = ()

    def evaluate(self, model: Any) -> list[Measurement]:
        options: Any = self.options
        self.batches.append(options.batch)
        if options.mood == "crowded" and len(self.batches) in self.crowded:
            self._need_memory("processor")
        if options.batch > 1 and not (options.mood == "processor-later" and self.batches == [4]):
            self._need_memory(options.mood)
        found = super().evaluate(model)
        wrong = found[0].value != self.dense and int(found[0].value * 1e6) % 3 == 0
        if options.mood == "hopeless" or (wrong and options.mood in ("raises", "nan", "other-metric")):
            return self._go_wrong(options.mood, found[0])
        return found

    def observe_dense(self, model: Any) -> None:
        self.dense = super().evaluate(model)[0].value

    def _need_memory(self, mood: str) -> None:
        if mood == "device":
            raise torch.OutOfMemoryError("device out of memory")
        if mood.startswith("processor"):
            torch.empty(TOO_MUCH, dtype=torch.int8)
        if mood == "python":
            bytearray(TOO_MUCH)

    def _go_wrong(self, mood: str, measured: Measurement) -> list[Measurement]:
        if mood == "nan":
            return [Measurement(measured.metric, float("nan"), None, measured.count)]
        if mood == "other-metric":
            return []
        raise ZeroDivisionError("this one is too much")


class OwnBatch(Moody):
    """The same evaluator, declaring that its results depend on the batch size."""

    options_model = OwnBatchOptions


class MoodyPlugin:
    @hookimpl
    def prunecast_evaluators(self) -> list[Entry]:
        names = {"moody": "Moody", "own-batch": "OwnBatch"}
        return [Entry(use, f"moody:{name}", "goes wrong at times") for use, name in names.items()]
