"""What happens in a run, as objects that plugins may follow: see the hooks at the end of :mod:`prunecast.plugins.hookspecs`.

Every field is plain data, so an event can be written as JSON as it is. Within one major version fields are added, never
taken away. A run that is continued tells of everything again that it finds in the registry, with ``cached`` set.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        event: its name in JSON.
        run: id of the run in its registry.
    """

    event: ClassVar[str]

    run: int

    def to_json(self) -> dict[str, Any]:
        """JSON-able form: the name of the event and its fields."""
        return {"event": self.event, **asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    """A run has been noted in the registry; nothing has been measured yet.

    Attributes:
        spec_name: name of the spec.
        spec: the whole spec with all defaults, as JSON.
        model: where the dense model comes from, e.g. ``smollm2-135m``.
        fingerprint: hexadecimal content hash of its config and weights.
        dtype: number format of the measurements, e.g. ``bfloat16``.
        budget: upper limits by quantity, absolute.
        resumed: whether a run of the same spec was in the registry before.
    """

    event: ClassVar[str] = "run_started"

    spec_name: str
    spec: dict[str, Any]
    model: str
    fingerprint: str
    dtype: str
    budget: dict[str, int]
    resumed: bool


@dataclass(frozen=True)
class ArchitectureMeasured(Event):
    """An evaluator's numbers for one architecture are known, and in the registry.

    Attributes:
        stage: what they are for: ``dense``, ``pairs``, ``round 1``, ..., ``verify`` or the name of a baseline.
        architecture: text of the architecture.
        parameters: its parameters, embeddings included.
        evaluator: name of the evaluator.
        metrics: values by name, ``DATASET.SPLIT.METRIC``.
        cached: whether they were in the registry before; they then may come up in several stages.
        seconds: time of the evaluation; None if cached.
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
    """The predictor has been fitted on everything that was measured for it so far.

    Attributes:
        round: number of rounds before it, from 0 on.
        predictor: name of the predictor.
        pairs: number of architectures it was fitted on.
        seconds: time of the fit.
    """

    event: ClassVar[str] = "predictor_fitted"

    round: int
    predictor: str
    pairs: int
    seconds: float


@dataclass(frozen=True)
class RoundFinished(Event):
    """What a round proposed has been measured.

    Attributes:
        round: its number, from 1 on.
        proposed: architectures the search proposed.
        measured: how many of them could be measured.
        best_architecture: text of the best one so far that meets the budget; None if there is none.
        best_metrics: its metrics of the search by name; empty if there is none.
    """

    event: ClassVar[str] = "round_finished"

    round: int
    proposed: int
    measured: int
    best_architecture: str | None
    best_metrics: dict[str, float]


@dataclass(frozen=True)
class RunFinished(Event):
    """A run has ended, in whatever way; the last event of every run but one that is killed.

    Attributes:
        status: how it ended.
        message: why it did not finish, in one line; empty if it did.
        result: what ``prunecast run --json`` prints; None unless it finished.
    """

    event: ClassVar[str] = "run_finished"

    status: Literal["finished", "failed", "interrupted"]
    message: str
    result: dict[str, Any] | None
