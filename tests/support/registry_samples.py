"""Records of a small model, and processes that write evaluations of it."""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.compare.candidate import Candidate
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.predict.quality import QualityCard, Scores
from prunecast.registry.records import ModelRecord, PluginRecord, Setting
from prunecast.registry.store import Registry
from prunecast.run.result import RunResult

DEPTH = 3
PPL = Metric("wikitext2.validation.ppl", "minimize", "perplexity", "log")
ACCURACY = Metric("arc.test.accuracy", "maximize", "fraction")


def card(pairs: int = 40) -> QualityCard:
    """Quality card of a predictor of both metrics; all scores are different."""
    scores = [Scores(*(k + (10 * target + place) / 100 for place in range(10))) for target, k in enumerate((0, 1, 2))]
    metrics = dict(zip((PPL.name, ACCURACY.name), scores, strict=False))
    return QualityCard("gp", pairs, 12, 10, 12, metrics, scores[2], (), {})


def result(judged: QualityCard | None) -> RunResult:
    """Result of a run that measured only the dense model, with this quality card."""
    dense = Candidate("dense", shape().dense, int(shape().count([shape().dense])[0]), 0, {PPL.name: 31.5}, None)
    return RunResult(
        run=1,
        name="first",
        model=setting().model,
        dtype="float32",
        budget={},
        dense=dense,
        baselines=[],
        best=dense,
        verified=[dense],
        predictor="gp",
        pairs=40,
        card=judged,
        warm_start=None,
        importances=[],
        refinement=None,
        rounds=[],
        measured=1,
        cached=0,
        exports=(),
        seconds=2.0,
        recovered=None,
    )


def shape(depth: int = DEPTH) -> ModelShape:
    return ModelShape(
        family="llama",
        dense=Architecture([(4, 2, 24)] * depth),
        hidden_size=64,
        head_dim=8,
        vocabulary=97,
        context=128,
        embeddings=97 * 64,
        fixed=97 * 64 + 64,
        layers=(LayerCost(ComponentCost(base=64, unit=1024, head=1024), ComponentCost(base=64, unit=192)),) * depth,
    )


def setting(**changes: object) -> Setting:
    parts: dict[str, object] = {
        "model": ModelRecord("f" * 32, "tiny", shape()),
        "pruner": PluginRecord("taylor", 1, {"order": 1}, "c" * 32, "prunecast"),
        "evaluator": PluginRecord("perplexity", 1, {"tokens": 64}, "d" * 32, "prunecast"),
        "dtype": "float32",
    }
    return Setting(**(parts | changes))  # type: ignore[arg-type]


def architecture(number: int) -> Architecture:
    """The architecture of this number; those of numbers below 62,500 are all different."""
    widths = [number % 25, number // 25 % 25, number // 625 % 25]
    return Architecture([(4 - number // 15_625, 2, width) for width in widths])


def measurements(ppl: float, error: float | None = 0.5) -> list[Measurement]:
    return [Measurement(PPL, ppl, error, 64), Measurement(ACCURACY, 1 / (1 + abs(ppl)), None, 20)]


def start(registry: Registry, key: str = "a" * 32, name: str = "first") -> int:
    return registry.start_run(key, name, '{"a":1}', "a: 1 # text\n").id


def write(path: Path, numbers: Iterable[int], ppl: float, committed: Path | None = None) -> None:
    """Record architectures one by one; append the number of each to ``committed`` after it is committed."""
    log = None if committed is None else os.open(committed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Registry.open(path) as registry:
        run = start(registry)
        for number in numbers:
            registry.record(run, "sample", setting(), architecture(number), measurements(ppl + number), 2.0, "cpu")
            if log is not None:
                os.write(log, f"{number}\n".encode())


def process(target: Callable[..., None], *arguments: object) -> multiprocessing.context.ForkProcess:
    started = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    started.start()
    return started
