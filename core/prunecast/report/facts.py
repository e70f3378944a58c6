"""Data of a report: a finished run, and the other runs of the same model and protocol in the registry."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ModelShape
from prunecast.architecture.speed import NANOSECONDS, SPEEDS, Speed
from prunecast.compare.uniform import distinct_totals
from prunecast.errors import RegistryError
from prunecast.registry import Registry, RunRecord
from prunecast.registry.queries.selection import architectures_of
from prunecast.registry.queries.speeds import Conditions, RecordedSpeeds, latest_speeds, recorded_speeds
from prunecast.registry.records import shape_from_json
from prunecast.spec.stages import PAIRS, ROUND

_METRICS = "SELECT DISTINCT name, direction, scale, unit FROM metrics"

_SHAPE = "SELECT shape_json, family FROM models WHERE key = ?"

_COLLECTED = """
    SELECT DISTINCT e.architecture_id, a.layer_ids_json, e.parameters, n.name, x.value
    FROM run_evaluations u
    JOIN evaluations e ON e.id = u.evaluation_id
    JOIN architectures a ON a.id = e.architecture_id
    JOIN metric_values x ON x.evaluation_id = e.id
    JOIN metrics n ON n.id = x.metric_id
    WHERE u.run_id = :run AND (u.stage = :pairs OR u.stage LIKE :rounds)
    ORDER BY e.architecture_id, n.name"""

_STAGES = """
    SELECT u.stage, count(*) AS evaluations, sum(u.cached) AS cached, sum(e.seconds) AS seconds
    FROM run_evaluations u JOIN evaluations e ON e.id = u.evaluation_id
    WHERE u.run_id = ? GROUP BY u.stage ORDER BY min(u.position)"""

_SETTINGS = """
    SELECT DISTINCT v.name AS evaluator, v.options_json AS evaluator_options, v.data_hash AS evaluator_data,
        p.name AS pruner, p.options_json AS pruner_options, p.data_hash AS pruner_data, s.dtype
    FROM run_evaluations u
    JOIN evaluations e ON e.id = u.evaluation_id
    JOIN settings s ON s.id = e.setting_id
    JOIN pruners p ON p.id = s.pruner_id
    JOIN evaluators v ON v.id = s.evaluator_id
    WHERE u.run_id = ? ORDER BY p.id, v.id"""

_VERSIONS = """
    SELECT DISTINCT o.prunecast, o.python, o.torch, o.transformers, o.device
    FROM run_evaluations u
    JOIN evaluations e ON e.id = u.evaluation_id
    JOIN provenances o ON o.id = e.provenance_id
    WHERE u.run_id = ? ORDER BY 1, 2, 3, 4, 5"""

_FAILURES = """
    SELECT v.name AS evaluator, f.reason, f.attempts, f.last_utc FROM failures f
    JOIN settings s ON s.id = f.setting_id
    JOIN evaluators v ON v.id = s.evaluator_id
    WHERE f.run_id = ? ORDER BY f.last_utc, f.reason"""


@dataclass(frozen=True)
class MetricFacts:
    """A metric.

    Attributes:
        name: ``DATASET.SPLIT.METRIC``.
        smaller_is_better: True if smaller values are better.
        logarithmic: True if predictors learn its logarithm.
    """

    name: str
    smaller_is_better: bool
    logarithmic: bool

    def gain(self, value: float, reference: float) -> float:
        """Improvement of ``value`` over ``reference``, as a fraction of ``reference``; negative if it is worse."""
        change = value / reference - 1 if reference else 0.0
        return -change if self.smaller_is_better else change

    def from_scale(self, value: float) -> float:
        """Convert a value from the scale predictors learn to the unit of the metric."""
        from math import exp

        return exp(value) if self.logarithmic else value


@dataclass(frozen=True)
class Row:
    """A measured architecture.

    Attributes:
        name: its name in the run, e.g. ``dense`` or ``uniform``.
        architecture: the architecture.
        parameters: all parameters, embeddings included.
        metrics: measured values by name.
    """

    name: str
    architecture: Architecture
    parameters: int
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, candidate: Mapping[str, Any]) -> "Row":
        """Row of a candidate in a run's result."""
        architecture = Architecture.parse(candidate["architecture"])
        return cls(candidate["name"], architecture, candidate["parameters"], candidate["metrics"])


@dataclass(frozen=True)
class Outcome:
    """A finished run and its result.

    Attributes:
        record: the run.
        result: its result, as ``prunecast run --json`` prints it.
    """

    record: RunRecord
    result: Mapping[str, Any]

    @property
    def dense(self) -> Row:
        """The dense model."""
        return Row.of(self.result["dense"])

    @property
    def best(self) -> Row:
        """The best architecture."""
        return Row.of(self.result["best"])

    @property
    def baselines(self) -> list[Row]:
        """Baselines of the run, which may have several parameter counts."""
        return [Row.of(candidate) for candidate in self.result["baselines"]]

    @property
    def verified(self) -> list[Row]:
        """The best measured architectures, best first."""
        return [Row.of(candidate) for candidate in self.result["verified"]]

    @property
    def found(self) -> list[Row]:
        """The best architecture at each parameter count.

        That is the best of the run alone, unless the acquisition strategy is ``spread``: then the last round's choices
        at the other parameter counts follow.
        """
        *_, last = self.result.get("rounds") or [{}]  # results of earlier versions have no rounds, or no strategy
        if last.get("rule") != "spread":
            return [self.best]
        spread = {Architecture.parse(each["architecture"]) for each in last["chosen"]}
        rows = [self.best, *(row for row in self.verified if row.architecture in spread)]
        first = {row.parameters: row for row in reversed(rows)}
        return [first[total] for total in distinct_totals(row.parameters for row in rows)]

    @property
    def recovery(self) -> Mapping[str, Any] | None:
        """Training of the best architecture and its metrics afterwards; None if it was not trained."""
        recovery: Mapping[str, Any] | None = self.result.get("recovery")
        return recovery

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The resolved spec."""
        spec: Mapping[str, Any] = json.loads(self.record.spec_json)
        return spec


class Compared(Outcome):
    """A finished run with the metrics that its rows are compared in.

    Args:
        registry: the registry of the run; it is only read.
        record: the run.

    Raises:
        RegistryError: the run has no result.
    """

    def __init__(self, registry: Registry, record: RunRecord) -> None:
        if record.result is None:
            raise RegistryError(
                f"{registry.path}: run {record.id} ({record.name}) is {record.status} and has no result to report: "
                "finish it by running its spec again"
            )
        super().__init__(record, record.result)
        own = {metric.name: metric for metric in _metrics(registry)}
        self.metrics: list[MetricFacts] = [own[name] for name in self.dense.metrics]
        """All metrics of the run, in the order of its evaluators."""
        self.searched: list[MetricFacts] = [own[name] for name in self.result["best"]["predicted"]]
        """Metrics that the predictor learned and the search optimised."""

    def kept(self, parameters: int) -> float:
        """Parameter count as a fraction of the dense model's."""
        return parameters / self.dense.parameters


class Facts(Compared):
    """A finished run with everything its report shows; arguments and errors as of :class:`Compared`."""

    def __init__(self, registry: Registry, record: RunRecord) -> None:
        super().__init__(registry, record)
        row = next(registry.rows(_SHAPE, (self.result["model"]["fingerprint"],)))
        self.shape: ModelShape = shape_from_json(row["shape_json"])
        """Sizes of the dense model."""
        self.family = str(row["family"])
        """The model's family."""
        self.comparable: list[Outcome] = [self, *_comparable(registry, self)]
        """This run, then all other finished runs of the same model and protocol, the latest first. Budget, search space
        and search may differ."""
        self.collected: list[Row] = _collected(registry, self.comparable)
        """Every architecture in the training data or rounds of these runs."""
        self.recorded: list[RecordedSpeeds] = recorded_speeds(registry, self.shape)
        """Tables of component times of models of these sizes."""
        self.speeds: RecordedSpeeds | None = latest_speeds(self.recorded, self.result["model"]["dtype"], _asked(self))
        """The table that speeds are predicted from: of the dtype of the run and, if its budget limits speeds, of its
        batch and context; of several the latest. None if there is none."""
        self.stages = list(registry.rows(_STAGES, (record.id,)))
        """One row per stage: ``stage``, numbers of ``evaluations`` and of ``cached`` ones, and ``seconds`` of all."""
        self.settings = list(registry.rows(_SETTINGS, (record.id,)))
        """Evaluators and pruners of the run's evaluations, with the hashes of their data, and the dtype."""
        self.versions = list(registry.rows(_VERSIONS, (record.id,)))
        """Software versions and devices of the run's evaluations."""
        self.failures = list(registry.rows(_FAILURES, (record.id,)))
        """Failed evaluations with their reasons."""
        self.exports = [row | {"notes": json.loads(row["notes_json"])} for row in registry.exports(record.id)]
        """Written files, with how they compare with the measured model."""

    def milliseconds(self, rows: Sequence[Row], speed: Speed) -> list[float]:
        """Predicted times of some rows. Raises BudgetError without :attr:`speeds`."""
        timed = self.shape if self.speeds is None else self.shape.with_speeds(self.speeds.table)
        counts = timed.count([row.architecture for row in rows], speed).tolist() if rows else []
        return [count / NANOSECONDS for count in counts]


def _metrics(registry: Registry) -> list[MetricFacts]:
    return [
        MetricFacts(row["name"], row["direction"] == "minimize", row["scale"] == "log")
        for row in registry.rows(_METRICS)
    ]


def _comparable(registry: Registry, run: Outcome) -> list[Outcome]:
    others = [Outcome(r, r.result) for r in registry.runs() if r.result is not None and r.id != run.record.id]
    return [other for other in others if other.record.status == "finished" and _protocol(other) == _protocol(run)]


def _protocol(run: Outcome) -> object:
    """Model, pruner and evaluators. Only numbers of runs that agree in all of them are comparable."""
    spec = run.spec
    return run.result["model"], spec["pruner"], spec["evaluators"], spec["verify"]["evaluators"]


def _asked(run: Outcome) -> Conditions:
    """Conditions of the speeds that the budget of a run limits, as far as its spec has them."""
    budget = run.spec["budget"]
    if not any(budget.get(speed) for speed in SPEEDS):
        return Conditions()
    return Conditions(batch=budget.get("batch") or 1, context=budget["context"])


def _collected(registry: Registry, runs: Sequence[Outcome]) -> list[Row]:
    found: dict[int, tuple[str, int, dict[str, float]]] = {}
    for run in runs:
        for row in registry.rows(_COLLECTED, {"run": run.record.id, "pairs": PAIRS, "rounds": f"{ROUND} %"}):
            first = row["layer_ids_json"], row["parameters"], dict[str, float]()
            found.setdefault(row["architecture_id"], first)[2][row["name"]] = row["value"]
    ordered = [found[key] for key in sorted(found)]
    architectures = architectures_of(registry, [layer_ids for layer_ids, _, _ in ordered])
    return [
        Row("measured", architecture, parameters, metrics)
        for architecture, (_, parameters, metrics) in zip(architectures, ordered, strict=True)
    ]
