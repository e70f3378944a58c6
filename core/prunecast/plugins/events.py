"""Events of a run, passed to the hooks at the end of :mod:`prunecast.plugins.hookspecs`.

Every field is plain data, so an event can be written as JSON directly. Within a major version fields may be added, but
never removed. A resumed run repeats the events of all measurements that it finds in the registry, with ``cached`` set.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Event:
    """Base of all events.

    Attributes:
        event: name of the event in JSON.
        run: id of the run in its registry.
    """

    event: ClassVar[str]

    run: int

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable form: the name of the event and its fields."""
        return {"event": self.event, **asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    """A run has been added to the registry; nothing has been measured yet.

    Attributes:
        spec_name: name of the spec.
        spec: the whole spec with all defaults, as JSON.
        model: source of the dense model, e.g. ``smollm2-135m``.
        fingerprint: hexadecimal content hash of its config and weights.
        dtype: number format of the measurements, e.g. ``bfloat16``.
        budget: absolute upper limits by quantity; of speeds, milliseconds.
        resumed: True if the registry already had a run of the same spec.
    """

    event: ClassVar[str] = "run_started"

    spec_name: str
    spec: dict[str, Any]
    model: str
    fingerprint: str
    dtype: str
    budget: dict[str, float]
    resumed: bool


@dataclass(frozen=True)
class ArchitectureMeasured(Event):
    """The registry has the metrics of one architecture by one evaluator.

    Attributes:
        stage: stage of the run: ``dense``, ``pairs``, ``round 1``, ..., ``verify`` or the name of a baseline.
        architecture: text of the architecture.
        parameters: number of parameters of the architecture, embeddings included.
        evaluator: name of the evaluator.
        metrics: values by name, ``DATASET.SPLIT.METRIC``.
        cached: True if the metrics were already in the registry; they may then be reported in several stages.
        seconds: duration of the evaluation in seconds; None if cached.
    """

    event: ClassVar[str] = "architecture_measured"

    stage: str
    architecture: str
    parameters: int
    evaluator: str
    metrics: dict[str, float]
    cached: bool
    seconds: float | None


@dataclass(frozen=True)
class PredictorFitted(Event):
    """The predictor has been fitted on all pairs measured so far.

    Attributes:
        round: number of rounds before the fit, from 0.
        predictor: name of the predictor.
        pairs: number of architectures it was fitted on.
        seconds: duration of the fit in seconds.
    """

    event: ClassVar[str] = "predictor_fitted"

    round: int
    predictor: str
    pairs: int
    seconds: float


@dataclass(frozen=True)
class RoundFinished(Event):
    """The proposals of a round have been measured.

    Attributes:
        round: number of the round, from 1.
        proposed: number of architectures that the search proposed.
        measured: number of proposals that were measured successfully.
        best_architecture: text of the best architecture so far that meets the budget; None if there is none.
        best_metrics: search metrics of the best architecture by name; empty if there is none.
    """

    event: ClassVar[str] = "round_finished"

    round: int
    proposed: int
    measured: int
    best_architecture: str | None
    best_metrics: dict[str, float]


@dataclass(frozen=True)
class RunFinished(Event):
    """A run has ended, successfully or not; the last event of every run unless its process is killed.

    Attributes:
        status: final status of the run.
        message: reason why the run did not finish, in one line; empty if it finished.
        result: output of ``prunecast run --json``; None unless the run finished.
    """

    event: ClassVar[str] = "run_finished"

    status: Literal["finished", "failed", "interrupted"]
    message: str
    result: dict[str, Any] | None
