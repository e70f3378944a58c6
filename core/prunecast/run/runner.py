"""The runner: all stages of a run in order.

The registry is the only state. Every stage is a function of the spec's seed and of what has been measured, and all of
that is found in the registry; so a run that was killed continues when it is run again.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property, partial

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import in_own_unit
from prunecast.compare.built import BuiltBaseline
from prunecast.compare.candidate import Candidate
from prunecast.compare.search_baselines import search_by_measuring
from prunecast.compare.uniform import distinct_totals
from prunecast.errors import BudgetError, EvaluationError
from prunecast.export.deliver import Deliverable, ExportReport
from prunecast.measure.build import build_elastic
from prunecast.measure.dispatch import LOCAL, Dispatch
from prunecast.measure.engine import Engine
from prunecast.measure.measure import Measuring
from prunecast.measure.placement import placed
from prunecast.measure.recorded import Permissions
from prunecast.measure.sensitivities import LocalSensitivities
from prunecast.measure.setup import NamedEvaluator, Setup, dtype_name
from prunecast.measure.speeds import with_measured_speeds
from prunecast.plugins.events import PredictorFitted, RoundFinished, RunFinished, RunStarted
from prunecast.plugins.host import PluginHost
from prunecast.plugins.isolation import reason
from prunecast.plugins.listeners import Listeners
from prunecast.predict.fitted import Fitted, fit
from prunecast.predict.importance import importances
from prunecast.predict.quality import CURVE, QualityCard, evaluate_predictor
from prunecast.predict.taylor_expansion import TaylorExpansion
from prunecast.predict.transfer import Prior
from prunecast.predict.warm_start import evaluate_warm_start, prior_of, warm_started
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Metrics
from prunecast.problem.problem import Problem
from prunecast.progress import Progress
from prunecast.recover.recover import Recoverer, check_recovery, recover
from prunecast.registry import Registry, RunStart
from prunecast.registry.leases import running
from prunecast.run.delivery import deliver_run, places_of, recoverer_of, written_setup
from prunecast.run.preflight import preflight
from prunecast.run.result import RunResult, result_to_record, speeds_of
from prunecast.run.texts import notes_of, texts_of
from prunecast.search.asynchronous import OverlappingRounds
from prunecast.search.initial_design import propose, reused_architectures
from prunecast.search.neighbours import expansions_around_best
from prunecast.search.refine import Refinement, refine
from prunecast.search.search import Round, finalists, search, spread_over
from prunecast.spec.model import Spec
from prunecast.spec.stages import (
    DENSE,
    PAIRS,
    SEARCH_BASELINES,
    VERIFY,
    SearchBaseline,
    baseline_evaluations,
    round_name,
)


def run(
    spec: Spec,
    host: PluginHost,
    registry: Registry,
    progress: Progress,
    overwrite: bool = False,
    executor: str | None = None,
) -> RunResult:
    """Execute a spec, or continue it.

    A finished run that is run again and measures nothing keeps its times, its costs and its export in the registry;
    the returned result is that of this call.

    Args:
        spec: the spec.
        host: host of its plugins.
        registry: where evaluations are found and recorded.
        progress: where progress is shown.
        overwrite: True allows the export to replace one of another run, spec or architecture, and an edited one.
        executor: name of the executor; that of the spec, if it names one, or ``local`` if not given.

    Raises:
        PrunecastError: something is missing, does not fit or went wrong; what was measured before is in the registry.
        KeyboardInterrupt: the run is marked as interrupted, what was measured is in the registry.
    """
    began = time.perf_counter()
    workers = spec.executed_by(executor)
    setup = Setup(spec, host)
    for note in setup.notes:
        progress.say(note)
    # Not part of the preflight: a dry run, which has the same, may be made on another machine.
    check_recovery(spec.recover, setup.device.type)
    identity = preflight(setup, registry, overwrite)
    if placement := placed(setup).note:
        progress.say(placement)
    setup = with_measured_speeds(setup, registry, progress)
    prior = prior_of(spec, setup.problem, registry)
    for note in notes_of(setup):
        progress.say(f"note: {note}")
    recorded = spec.settled(setup.source.revision).to_json()
    started = registry.start_run(spec.key, spec.name, recorded, spec.source.text, identity)
    if started.changed:
        progress.say(f"{started.changed}: this is run {started.id}, and measures anew what that decides")
    listeners = Listeners(host)
    listeners.tell(_started(setup, started))
    engine = Engine(setup, progress)
    dispatch = Dispatch.of(setup, engine, progress, workers.use)
    with running(registry, started.id), _outcome(registry, started.id, listeners), dispatch:
        execution = Run(setup, prior, registry, started.id, progress, listeners, engine, dispatch)
        result = execution.execute()
        registry.keep_result(started.id, result_to_record(result, started.earlier))
        exports = execution.export(result, overwrite)
        registry.keep_exports(started.id, [each.to_json() for each in exports])
        seconds = time.perf_counter() - began
        result = replace(result, exports=exports, seconds=seconds)
        if workers.use != LOCAL:
            result = replace(result, workers=dispatch.to_json(workers.use))
        result = replace(result, registry=registry.path.absolute(), host=host, permissions=Permissions.of(spec))
        _finish(registry, started, result)
    listeners.tell(RunFinished(started.id, "finished", "", result.to_json()))
    return result


def _started(setup: Setup, started: RunStart) -> RunStarted:
    return RunStarted(
        run=started.id,
        spec_name=setup.spec.name,
        spec=json.loads(setup.spec.to_json()),
        model=setup.model_record.source,
        fingerprint=setup.model_record.fingerprint,
        dtype=dtype_name(setup.dtype),
        budget={str(each): in_own_unit(each, limit) for each, limit in setup.problem.budget.limits.items()},
        resumed=started.resumed,
    )


def _finish(registry: Registry, started: RunStart, result: RunResult) -> None:
    earlier, record = started.earlier, result_to_record(result, started.earlier)
    if earlier is not None and earlier.status == "finished" and not result.measured:
        registry.finish_again(earlier, record)
    else:
        registry.finish_run(started.id, "finished", record)


@contextmanager
def _outcome(registry: Registry, run_id: int, listeners: Listeners) -> Iterator[None]:
    """Record in the registry, and report to listeners, the end of a run that does not finish."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        message = str(interruption) or "interrupted by the user"
        registry.finish_run(run_id, "interrupted", None, message)
        listeners.tell(RunFinished(run_id, "interrupted", message, None))
        raise
    except Exception as error:
        registry.finish_run(run_id, "failed", None, reason(error))
        listeners.tell(RunFinished(run_id, "failed", reason(error), None))
        raise


class Run:
    """One execution of a spec."""

    def __init__(
        self,
        setup: Setup,
        prior: Prior | None,
        registry: Registry,
        run_id: int,
        progress: Progress,
        listeners: Listeners,
        engine: Engine,
        dispatch: Dispatch,
    ) -> None:
        self._setup, self._spec, self._run_id, self._progress = setup, setup.spec, run_id, progress
        self._registry = registry
        self._listeners = listeners
        self._prior = prior
        self._problem: Problem = setup.problem if prior is None else warm_started(setup.problem, prior)
        self._engine, self._dispatch = engine, dispatch
        self._measuring = Measuring(setup, dispatch, engine, registry, run_id, progress, listeners)
        self._sensitivities = LocalSensitivities(dispatch, setup.evaluators, registry, run_id, progress)
        settings = [named.setting for named in setup.evaluators]
        self._reused = reused_architectures(self._spec, self._problem, registry, settings)
        self._expansions: dict[Architecture, TaylorExpansion] = {}

    def execute(self) -> RunResult:
        """All stages in order but the export."""
        began = time.perf_counter()
        setup, problem, measuring = self._setup, self._problem, self._measuring
        (dense,) = self._compared(DENSE, [problem.shape.dense], setup.verifiers)
        measured = self._initial_design()
        fitted = self._fitted(measured, 0)
        refinement = self._refined(fitted)
        refined = problem if refinement is None else problem.over(refinement.space)
        in_turn = self._in_turn if self._spec.refit_after == 1 else self._overlapping
        rounds, measured, fitted = in_turn(refined, measured, fitted)
        best, *others = self._verified(fitted, measured, rounds)
        spent = baseline_evaluations(self._spec, len(measured), len(self._expansions))
        baselines = self._baselines(best.parameters, rounds, spent)
        recovered = None if self._recoverer is None else recover(self._recoverer, best, measuring)
        return RunResult(
            run=self._run_id,
            name=self._spec.name,
            model=setup.model_record,
            dtype=dtype_name(setup.dtype),
            budget=dict(problem.budget.limits),
            dense=dense,
            baselines=baselines,
            best=best,
            verified=[best, *others],
            predictor=self._spec.predictor.use,
            pairs=len(measured),
            card=self._quality(measured),
            warm_start=None if self._prior is None else evaluate_warm_start(self._prior, problem, measured),
            importances=importances(problem, fitted),
            refinement=refinement,
            rounds=rounds,
            measured=measuring.measured,
            cached=measuring.cached,
            exports=(),
            seconds=time.perf_counter() - began,
            recovered=recovered,
            texts=texts_of(setup),
            speeds={} if setup.speeds is None else speeds_of(problem.shape, setup.speeds, [dense, best]),
        )

    def _initial_design(self) -> Measured:
        """Architectures measured before the first fit."""
        proposed = propose(self._problem, self._spec.collect, self._reused)
        metrics = self._measuring.measure(PAIRS, proposed, self._setup.evaluators)
        if not metrics:
            raise EvaluationError("none of the pairs could be measured: see above, or the registry's table failures")
        return Measured(self._problem.objective, metrics)

    def _fitted(self, measured: Measured, rounds: int) -> Fitted:
        began = time.perf_counter()
        fitted = fit(self._problem, measured)
        seconds = time.perf_counter() - began
        self._listeners.tell(PredictorFitted(self._run_id, rounds, self._spec.predictor.use, len(measured), seconds))
        return fitted

    def _expanded(self, refined: Problem, fitted: Fitted, measured: Measured) -> Fitted:
        """The fitted predictor or, with local sensitivities, one of the remainder of Taylor expansions."""
        if self._spec.neighbours:
            self._expansions |= expansions_around_best(
                refined, measured, self._spec.neighbours, self._expansions, self._sensitivities.estimate
            )
        return fit(self._problem, measured, list(self._expansions.values())) if self._expansions else fitted

    def _tell_of(self, finished: Round, measured: Measured) -> None:
        best = measured.best(self._problem.budget)
        self._listeners.tell(
            RoundFinished(
                run=self._run_id,
                round=finished.number,
                proposed=len(finished.chosen),
                measured=len(finished.measured),
                best_architecture=None if best is None else str(best),
                best_metrics={} if best is None else dict(measured.metrics[best]),
            )
        )

    def _refined(self, fitted: Fitted) -> Refinement | None:
        """The space with other values where the spec asks for them."""
        problem, options = self._problem, self._spec.refine
        return None if options is None else refine(problem, importances(problem, fitted), options)

    def _round(self, refined: Problem, fitted: Fitted, measured: Measured, before: Sequence[Round]) -> Round:
        """Search against the prediction and measure the proposals."""
        spec, number = self._spec, len(before) + 1
        count = spec.proposals(max(1, self._dispatch.workers))
        proposals = search(refined, self._setup.searcher, fitted, measured, before, spec.choose, count, self._progress)
        architectures = [each.architecture for each in proposals]
        found = self._measuring.measure(round_name(number), architectures, self._setup.evaluators)
        chosen = tuple(replace(each, measured=found.get(each.architecture)) for each in proposals)
        return Round(number, len(measured), spec.choose.rule, chosen)

    def _in_turn(self, refined: Problem, measured: Measured, fitted: Fitted) -> tuple[list[Round], Measured, Fitted]:
        """Rounds of which each learns from all before it."""
        rounds: list[Round] = []
        for number in range(1, self._spec.rounds + 1):
            rounds.append(self._round(refined, self._expanded(refined, fitted, measured), measured, rounds))
            measured = measured.and_also(rounds[-1].measured)
            self._tell_of(rounds[-1], measured)
            fitted = self._fitted(measured, number)
        return rounds, measured, fitted

    def _overlapping(
        self, refined: Problem, measured: Measured, fitted: Fitted
    ) -> tuple[list[Round], Measured, Fitted]:
        """Rounds of which each begins when a share of the one before has been measured."""
        overlapping = OverlappingRounds(
            refined, self._setup.searcher, measured, self._spec, self._fitted, self._progress
        )
        count = self._spec.proposals(max(1, self._dispatch.workers))
        found = self._measuring.measure_as_proposed(partial(overlapping.propose, count), self._setup.evaluators)
        rounds = overlapping.with_metrics(found)
        measured = measured.and_also(found)
        for each in rounds:
            self._tell_of(each, measured)
        return rounds, measured, self._fitted(measured, len(rounds))

    def _quality(self, measured: Measured) -> QualityCard | None:
        """Quality card of the predictor on the final pairs, with a learning curve."""
        problem = self._problem
        return evaluate_predictor(self._spec.predictor.use, problem.predictor, measured, problem.rng("judge"), CURVE)

    def _verified(self, fitted: Fitted, measured: Measured, rounds: Sequence[Round]) -> list[Candidate]:
        """The finalists, verified on the other evaluators; the best by the objective of the search comes first."""
        budget = self._problem.budget
        top = finalists(self._problem, measured, rounds, self._spec.verify.top)
        if not top:
            raise BudgetError(
                "no measured architecture meets the budget: raise collect.pairs or per_round, or collect.band to "
                "measure more architectures near it"
            )
        metrics = self._measuring.measure(VERIFY, top, self._setup.verifiers)
        if not any(map(budget.met_by, metrics)):
            raise EvaluationError("none of the best architectures could be verified: see the registry's table failures")
        in_sample = dict(zip(top, fitted.predictions(top)[0], strict=True))
        predicted = in_sample | {
            each.architecture: each.predicted for each_round in rounds for each in each_round.chosen
        }
        return [self._candidate("best", a, found, predicted[a]) for a, found in metrics.items()]

    @cached_property
    def _recoverer(self) -> Recoverer | None:
        """The recovery of the best architecture, if the spec asks for one."""
        options = self._spec.recover
        if options is None:
            return None
        return recoverer_of(self._setup, options, lambda: self._engine.elastic, self._progress)

    def export(self, result: RunResult, overwrite: bool) -> tuple[ExportReport, ...]:
        """Write the best architecture, recovered if the spec asks for it, for every target of the spec."""
        setup, path, chosen = self._setup, self._spec.export_path, result.best.architecture
        if self._spec.export is None or path is None:
            return ()
        written, places = written_setup(setup, self._spec.export.dtype), places_of(setup, self._spec.targets, path)
        for _, folder in places.values():
            self._progress.say(f"writing {folder.path}")

        elastic = cache(lambda: self._engine.elastic if written is setup else build_elastic(written, self._progress))

        def model() -> Deliverable:
            return self._recoverer.deliverable(chosen) if self._recoverer else Deliverable.of(elastic(), chosen)

        def dense() -> Deliverable:
            return Deliverable.of(elastic(), setup.shape.dense)

        return deliver_run(
            setup,
            written,
            chosen,
            model=model,
            dense=dense,
            compared=result.candidates,
            places=places,
            recovery=self._spec.recover,
            overwrite=overwrite,
        )

    def _baselines(self, parameters: int, rounds: Sequence[Round], evaluations: int) -> list[Candidate]:
        """Built baselines at every total of the result, and search baselines at that of its best."""
        totals = distinct_totals([parameters, *(each.parameters for each in spread_over(rounds))])
        names = self._spec.baselines
        by_baseline = [self._built(each, totals) for each in map(BuiltBaseline.named, names) if each]
        built = [candidate for at_one_total in zip(*by_baseline, strict=True) for candidate in at_one_total]
        searches = [self._searched(name, parameters, evaluations) for name in SEARCH_BASELINES if name in names]
        return [*built, *searches]

    def _built(self, baseline: BuiltBaseline, totals: Sequence[int]) -> list[Candidate]:
        choices, budget = self._problem.space.choices, self._problem.budget
        architectures = [baseline.build(choices, budget.at_most(total)) for total in totals]
        setup = self._setup
        verifiers = setup.verifiers if baseline.compensated else setup.uncompensated_verifiers
        return self._compared(baseline.name, architectures, verifiers)

    def _searched(self, name: SearchBaseline, parameters: int, evaluations: int) -> Candidate:
        def measure(architectures: Sequence[Architecture]) -> Mapping[Architecture, Metrics]:
            return self._measuring.measure(name, architectures, self._setup.evaluators)

        found = search_by_measuring(name, self._problem, parameters, evaluations, measure)
        return self._compared(name, [found], self._setup.verifiers)[0]

    def _compared(
        self, name: str, architectures: Sequence[Architecture], verifiers: Sequence[NamedEvaluator]
    ) -> list[Candidate]:
        """Architectures to compare with, each measured by every evaluator, in their order."""
        metrics = self._measuring.measure(name, architectures, verifiers)
        if missing := [architecture for architecture in architectures if architecture not in metrics]:
            failures = (self._registry.failures(named.setting, missing) for named in verifiers)
            reason = next((failure.reason for each in failures for failure in each.values()), "it has been given up on")
            raise EvaluationError(f"{name} could not be measured: {reason}; the registry's table failures has all")
        return [self._candidate(name, architecture, metrics[architecture], None) for architecture in architectures]

    def _candidate(
        self, name: str, architecture: Architecture, metrics: Metrics, predicted: Metrics | None
    ) -> Candidate:
        shape = self._problem.shape
        parameters = int(shape.count([architecture], "parameters")[0])
        return Candidate(name, architecture, parameters, parameters - shape.embeddings, metrics, predicted)
