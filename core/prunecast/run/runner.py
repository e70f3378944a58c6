"""A run: the stages strung together.

There is no state beside the registry. Every stage is a function of the spec's seed and of what has been measured, and
whatever has been measured is found there; so a run that was killed continues by being run again.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.compare.candidate import Candidate
from prunecast.compare.search_baselines import CONTENDERS, Contender, contend, evaluations_of
from prunecast.compare.uniform import UniformCut, distinct_totals, uniform
from prunecast.errors import BudgetError, EvaluationError
from prunecast.export.deliver import Deliverable, deliver
from prunecast.export.huggingface import ExportReport
from prunecast.measure.measure import Measuring
from prunecast.measure.setup import NamedEvaluator, Setup
from prunecast.plugins.events import PredictorFitted, RoundFinished, RunFinished, RunStarted
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import SearchSpace
from prunecast.plugins.isolation import reason
from prunecast.plugins.listeners import Listeners
from prunecast.predict.fitted import Fitted, fit
from prunecast.predict.importance import importances
from prunecast.predict.quality import CURVE, QualityCard, judge
from prunecast.predict.taylor_expansion import Expansion
from prunecast.predict.warm_start import judge_warm
from prunecast.problem.objective import Metrics
from prunecast.progress import Progress
from prunecast.recover.recover import Recoverer, check_recovery, recover
from prunecast.registry import Registry, RunStart
from prunecast.run.preflight import begin
from prunecast.run.result import RunResult
from prunecast.search.initial_design import given, propose
from prunecast.search.neighbours import look_around
from prunecast.search.refine import Refinement, refine
from prunecast.search.search import Round, finalists, ranked, search, spread_over
from prunecast.spec.model import Spec


def run(spec: Spec, host: PluginHost, registry: Registry, progress: Progress) -> RunResult:
    """Execute a spec, or continue it.

    Raises:
        PrunecastError: something is missing, does not fit or went wrong; what was measured before is in the registry.
        KeyboardInterrupt: the run is marked as interrupted, what was measured is in the registry.
    """
    start = time.perf_counter()
    setup = Setup(spec, host)
    check_recovery(spec.recover, setup.device.type)
    begin(setup, registry)
    started = registry.start_run(spec.key, spec.name, spec.to_json(), spec.source.text)
    listeners = Listeners(host)
    listeners.tell(_started(setup, started))
    with _outcome(registry, started.id, listeners):
        result = Run(setup, registry, started.id, progress, listeners).execute(start)
        registry.finish_run(started.id, "finished", result.to_json())
    listeners.tell(RunFinished(started.id, "finished", "", result.to_json()))
    return result


def _started(setup: Setup, started: RunStart) -> RunStarted:
    return RunStarted(
        run=started.id,
        spec_name=setup.spec.name,
        spec=json.loads(setup.spec.to_json()),
        model=setup.model_record.source,
        fingerprint=setup.model_record.fingerprint,
        dtype=str(setup.dtype).removeprefix("torch."),
        budget={str(quantity): limit for quantity, limit in setup.budget.limits.items()},
        resumed=started.resumed,
    )


@contextmanager
def _outcome(registry: Registry, run_id: int, listeners: Listeners) -> Iterator[None]:
    """Note in the registry, and tell, how a run that does not finish ended."""
    try:
        yield
    except KeyboardInterrupt:
        registry.finish_run(run_id, "interrupted", None, "interrupted by the user")
        listeners.tell(RunFinished(run_id, "interrupted", "interrupted by the user", None))
        raise
    except Exception as error:
        registry.finish_run(run_id, "failed", None, reason(error))
        listeners.tell(RunFinished(run_id, "failed", reason(error), None))
        raise


class Run:
    """One execution of a spec."""

    def __init__(self, setup: Setup, registry: Registry, run_id: int, progress: Progress, listeners: Listeners) -> None:
        self._setup, self._spec, self._run_id, self._progress = setup, setup.spec, run_id, progress
        self._listeners = listeners
        self._measuring = Measuring(setup, registry, run_id, progress, listeners)
        self._given = given(setup, registry)
        self._around: dict[Architecture, Expansion] = {}

    def execute(self, start: float) -> RunResult:
        """All stages in order. ``start`` is the ``time.perf_counter`` reading that the seconds count from."""
        setup, measuring = self._setup, self._measuring
        (dense,) = self._compared("dense", [setup.shape.dense], setup.verifiers)
        pairs = measuring.measure("pairs", propose(setup, self._given), setup.evaluators)
        if not pairs:
            raise EvaluationError("none of the pairs could be measured: see above, or the registry's table failures")
        fitted = self._fitted(pairs, 0)
        refinement = self._refined(fitted)
        space = setup.space if refinement is None else refinement.space
        rounds: list[Round] = []
        for number in range(1, self._spec.rounds + 1):
            rounds.append(self._round(space, self._sharpened(space, fitted, pairs), pairs, rounds))
            pairs |= rounds[-1].measured
            self._tell_of(rounds[-1], pairs)
            fitted = self._fitted(pairs, number)
        best, *others = self._verified(fitted, pairs, rounds)
        baselines = self._baselines(best.parameters, rounds, evaluations_of(self._spec, len(pairs), len(self._around)))
        recoverer = self._recoverer()
        recovered = None if recoverer is None else recover(recoverer, best, measuring)
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
            pairs=len(pairs),
            card=self._judged(pairs),
            warm_start=judge_warm(setup, pairs),
            importances=importances(setup, fitted),
            refinement=refinement,
            rounds=rounds,
            measured=measuring.measured,
            cached=measuring.cached,
            export=self._export(recoverer, [dense, *baselines, best, *([recovered.after] if recovered else [])]),
            seconds=time.perf_counter() - start,
            recovered=recovered,
        )

    def _fitted(self, pairs: Mapping[Architecture, Metrics], rounds: int) -> Fitted:
        start = time.perf_counter()
        fitted = fit(self._setup, pairs)
        seconds = time.perf_counter() - start
        self._listeners.tell(PredictorFitted(self._run_id, rounds, self._spec.predictor.use, len(pairs), seconds))
        return fitted

    def _sharpened(self, space: SearchSpace[Any], fitted: Fitted, pairs: Mapping[Architecture, Metrics]) -> Fitted:
        """What is fitted or, if the spec says so, a fit of what expansions around the best pairs miss."""
        if self._spec.neighbours:
            self._around |= look_around(self._setup, space, self._measuring, pairs, self._around)
        return fit(self._setup, pairs, list(self._around.values())) if self._around else fitted

    def _tell_of(self, finished: Round, pairs: Mapping[Architecture, Metrics]) -> None:
        best = next(iter(ranked(self._setup, pairs)), None)
        self._listeners.tell(
            RoundFinished(
                run=self._run_id,
                round=finished.number,
                proposed=len(finished.chosen),
                measured=len(finished.measured),
                best_architecture=None if best is None else str(best),
                best_metrics={} if best is None else dict(pairs[best]),
            )
        )

    def _refined(self, fitted: Fitted) -> Refinement | None:
        """The space with other values where the spec asks for them."""
        setup, options = self._setup, self._spec.refine
        if options is None:
            return None
        return refine(setup.space, setup.budget, setup.objective, importances(setup, fitted), options)

    def _round(
        self,
        space: SearchSpace[Any],
        fitted: Fitted,
        pairs: Mapping[Architecture, Metrics],
        before: Sequence[Round],
    ) -> Round:
        """Search against the prediction and measure what was found."""
        number = len(before) + 1
        chosen = search(self._setup, space, fitted, pairs, before, self._progress)
        architectures = [each.architecture for each in chosen]
        found = self._measuring.measure(f"round {number}", architectures, self._setup.evaluators)
        measured = tuple(replace(each, measured=found.get(each.architecture)) for each in chosen)
        return Round(number, len(pairs), self._spec.choose.rule, measured)

    def _judged(self, pairs: Mapping[Architecture, Metrics]) -> QualityCard | None:
        """How good the predictor is on the final pairs, with a learning curve."""
        setup = self._setup
        return judge(self._spec.predictor.use, setup.new_predictor, setup.objective, pairs, setup.rng("judge"), CURVE)

    def _verified(
        self, fitted: Fitted, pairs: Mapping[Architecture, Metrics], rounds: Sequence[Round]
    ) -> list[Candidate]:
        """The finalists, verified on the other evaluators; the best by the objective of the search comes first."""
        top = finalists(self._setup, pairs, rounds)
        if not top:
            raise BudgetError(
                "no measured architecture meets the budget: raise collect.pairs or per_round, or collect.band to "
                "measure more architectures near it"
            )
        metrics = self._measuring.measure("verify", top, self._setup.verifiers)
        if not any(map(self._setup.budget.met_by, metrics)):
            raise EvaluationError("none of the best architectures could be verified: see the registry's table failures")
        in_sample = dict(zip(top, fitted.predictions(top)[0], strict=True))
        predicted = in_sample | {
            each.architecture: each.predicted for each_round in rounds for each in each_round.chosen
        }
        return [self._candidate("best", a, found, predicted[a]) for a, found in metrics.items()]

    def _recoverer(self) -> Recoverer | None:
        """What trains the best architecture, if the spec says how."""
        options = self._spec.recover
        if options is None:
            return None
        return Recoverer(self._setup, options, lambda: self._measuring.elastic, self._progress)

    def _export(self, recoverer: Recoverer | None, compared: list[Candidate]) -> ExportReport | None:
        """Write the last of the compared architectures, recovered if the spec says how, if it says where to."""
        if self._spec.export is None:
            return None
        folder, chosen = Path(self._spec.export.path), compared[-1].architecture
        self._progress.say(f"writing {folder}")
        model = recoverer.deliverable(chosen) if recoverer else Deliverable.of(self._measuring.elastic, chosen)
        return deliver(self._setup, model, compared, folder)

    def _baselines(self, parameters: int, rounds: Sequence[Round], evaluations: int) -> list[Candidate]:
        """Uniform cuts at every total the run comes to, and searches at that of its best."""
        totals = distinct_totals([parameters, *(each.parameters for each in spread_over(rounds))])
        names = self._spec.baselines
        by_cut = [self._uniform(cut, totals) for cut in map(UniformCut.named, names) if cut]
        cuts = [candidate for at_one_total in zip(*by_cut, strict=True) for candidate in at_one_total]
        searches = [self._contender(name, parameters, evaluations) for name in CONTENDERS if name in names]
        return [*cuts, *searches]

    def _uniform(self, cut: UniformCut, totals: Sequence[int]) -> list[Candidate]:
        setup = self._setup
        architectures = [uniform(setup.shape, setup.space.choices, total, attention=cut.attention) for total in totals]
        verifiers = setup.verifiers if cut.compensated else setup.uncompensated_verifiers
        return self._compared(cut.name, architectures, verifiers)

    def _contender(self, name: Contender, parameters: int, evaluations: int) -> Candidate:
        def measure(architectures: Sequence[Architecture]) -> Mapping[Architecture, Metrics]:
            return self._measuring.measure(name, architectures, self._setup.evaluators)

        found = contend(name, self._setup, parameters, evaluations, measure)
        return self._compared(name, [found], self._setup.verifiers)[0]

    def _compared(
        self, name: str, architectures: Sequence[Architecture], verifiers: Sequence[NamedEvaluator]
    ) -> list[Candidate]:
        """Architectures to compare with, each measured by every evaluator, in their order."""
        metrics = self._measuring.measure(name, architectures, verifiers)
        if not set(architectures) <= set(metrics):
            raise EvaluationError(f"{name} could not be measured: see the registry's table failures")
        return [self._candidate(name, architecture, metrics[architecture], None) for architecture in architectures]

    def _candidate(
        self, name: str, architecture: Architecture, metrics: Metrics, predicted: Metrics | None
    ) -> Candidate:
        parameters, without = (
            int(self._setup.shape.count([architecture], quantity)[0])
            for quantity in ("parameters", "parameters_without_embeddings")
        )
        return Candidate(name, architecture, parameters, without, metrics, predicted)
