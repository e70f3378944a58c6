"""A run: the stages strung together.

There is no state beside the registry. Every stage is a function of the spec's seed and of what has been measured, and
whatever has been measured is found there; so a run that was killed continues by being run again.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prunecast.architecture import Architecture
from prunecast.errors import BudgetError, EvaluationError, PrunecastError
from prunecast.export.huggingface import ExportReport, check_target
from prunecast.pipeline.baselines import uniform
from prunecast.pipeline.collect import propose
from prunecast.pipeline.deliver import deliver
from prunecast.pipeline.fit import Fitted, fit, judge
from prunecast.pipeline.measure import Measuring, Metrics
from prunecast.pipeline.progress import Progress
from prunecast.pipeline.result import Candidate, RunResult
from prunecast.pipeline.search import ranked, search
from prunecast.pipeline.setup import Setup
from prunecast.plugins import PluginHost
from prunecast.registry import Registry
from prunecast.spec.model import Spec


def run(spec: Spec, host: PluginHost, registry: Registry, progress: Progress) -> RunResult:
    """Execute a spec, or continue it.

    Raises:
        PrunecastError: something is missing, does not fit or went wrong; what was measured before is in the registry.
        KeyboardInterrupt: the run is marked as interrupted, what was measured is in the registry.
    """
    start = time.perf_counter()
    setup = Setup(spec, host)
    setup.check()
    if spec.export is not None:
        check_target(Path(spec.export.path))
    started = registry.start_run(spec.key, spec.name, spec.to_json(), spec.source.text)
    with _outcome(registry, started.id):
        result = Run(setup, registry, started.id, progress).execute(start)
        registry.finish_run(started.id, "finished", result.to_json())
    return result


@contextmanager
def _outcome(registry: Registry, run_id: int) -> Iterator[None]:
    """Note in the registry how a run that does not finish ended."""
    try:
        yield
    except KeyboardInterrupt:
        registry.finish_run(run_id, "interrupted", None, "interrupted by the user")
        raise
    except PrunecastError as error:
        registry.finish_run(run_id, "failed", None, str(error))
        raise


class Run:
    """One execution of a spec."""

    def __init__(self, setup: Setup, registry: Registry, run_id: int, progress: Progress) -> None:
        self._setup, self._spec, self._run_id, self._progress = setup, setup.spec, run_id, progress
        self._measuring = Measuring(setup, registry, run_id, progress)
        self._predicted: dict[Architecture, Metrics] = {}

    def execute(self, start: float) -> RunResult:
        """All stages in order. ``start`` is the ``time.perf_counter`` reading that the seconds count from."""
        setup, measuring = self._setup, self._measuring
        dense = self._compared("dense", setup.shape.dense)
        pairs = measuring.measure("pairs", propose(setup), setup.evaluators)
        if not pairs:
            raise EvaluationError("none of the pairs could be measured: see above, or the registry's table failures")
        fitted = fit(setup, pairs)
        for round_number in range(1, self._spec.rounds + 1):
            pairs |= self._round(fitted, pairs, round_number)
            fitted = fit(setup, pairs)
        best, *others = self._verified(fitted, pairs)
        baselines = [self._baseline(name, best.parameters) for name in self._spec.baselines]
        return RunResult(
            run=self._run_id,
            name=self._spec.name,
            model=setup.model_record,
            dtype=str(setup.dtype).removeprefix("torch."),
            budget=dict(setup.budget.limits),
            dense=dense,
            baselines=baselines,
            best=best,
            verified=[best, *others],
            predictor=self._spec.predictor.use,
            quality=judge(setup, pairs),
            measured=measuring.measured,
            cached=measuring.cached,
            export=self._export([dense, *baselines, best]),
            seconds=time.perf_counter() - start,
        )

    def _round(self, fitted: Fitted, pairs: Mapping[Architecture, Metrics], number: int) -> dict[Architecture, Metrics]:
        """Search against the prediction and measure what was found."""
        chosen = search(self._setup, fitted, pairs, set(pairs), number, self._progress)
        self._predicted |= dict(zip(chosen, fitted.metrics(chosen), strict=True)) if chosen else {}
        return self._measuring.measure(f"round {number}", chosen, self._setup.evaluators)

    def _verified(self, fitted: Fitted, pairs: Mapping[Architecture, Metrics]) -> list[Candidate]:
        """The best measured architectures by the objective of the search, verified on the other evaluators."""
        top = ranked(self._setup, pairs)[: self._spec.verify.top]
        if not top:
            raise BudgetError(
                "no measured architecture meets the budget: raise collect.pairs or per_round, or collect.band to "
                "measure more architectures near it"
            )
        metrics = self._measuring.measure("verify", top, self._setup.verifiers)
        if not metrics:
            raise EvaluationError("none of the best architectures could be verified: see the registry's table failures")
        in_sample = dict(zip(top, fitted.metrics(top), strict=True))
        return [self._candidate("best", a, found, self._predicted.get(a, in_sample[a])) for a, found in metrics.items()]

    def _export(self, compared: list[Candidate]) -> ExportReport | None:
        """Write the last of the compared architectures, if the spec says where to."""
        if self._spec.export is None:
            return None
        folder = Path(self._spec.export.path)
        self._progress.say(f"writing {folder}")
        return deliver(self._setup, self._measuring.elastic, compared[-1].architecture, compared, folder)

    def _baseline(self, name: str, parameters: int) -> Candidate:
        choices = self._setup.space.choices
        architecture = uniform(self._setup.shape, choices, parameters, attention=name == "uniform")
        return self._compared(name, architecture)

    def _compared(self, name: str, architecture: Architecture) -> Candidate:
        """An architecture to compare with, measured by every evaluator."""
        metrics = self._measuring.measure(name, [architecture], self._setup.verifiers)
        if architecture not in metrics:
            raise EvaluationError(f"{name} could not be measured: see the registry's table failures")
        return self._candidate(name, architecture, metrics[architecture], None)

    def _candidate(
        self, name: str, architecture: Architecture, metrics: Metrics, predicted: Metrics | None
    ) -> Candidate:
        parameters, without = (
            int(self._setup.shape.count([architecture], quantity)[0])
            for quantity in ("parameters", "parameters_without_embeddings")
        )
        return Candidate(name, architecture, parameters, without, metrics, predicted)
