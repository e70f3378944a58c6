"""What a run comes to."""

from dataclasses import dataclass
from typing import Any

from prunecast.architecture.shape import Quantity
from prunecast.compare.candidate import Candidate
from prunecast.export.huggingface import ExportReport
from prunecast.predict.importance import ChoiceImportance
from prunecast.predict.quality import QualityCard
from prunecast.predict.warm_start import WarmStart
from prunecast.recover.recover import Recovered
from prunecast.registry import ModelRecord
from prunecast.search.refine import Refinement
from prunecast.search.search import Round


@dataclass(frozen=True)
class RunResult:
    """Everything a finished run has to say.

    Attributes:
        run: id of the run in the registry.
        name: name of the spec.
        model: the dense model.
        dtype: number format of the measurements.
        budget: limits, absolute.
        dense, baselines, best: measured for comparison; ``best`` is the first of ``verified``.
        verified: the best measured architectures, best first by the objective of the search.
        predictor: name of the predictor.
        pairs: how many it was fitted on in the end.
        card: how good it is on held-out pairs; None if there are too few.
        warm_start: what it began with of other models, and how much that helped; None if nothing.
        importances: how much each choice of the space matters to it.
        refinement: what was changed about the space after the first fit; None if nothing was to be.
        rounds: what each round chose, predicted and measured.
        measured, cached: evaluations made, and found in the registry.
        export: what was written, or None.
        seconds: wall time.
        recovered: the best after training; None if the spec does not recover.
    """

    run: int
    name: str
    model: ModelRecord
    dtype: str
    budget: dict[Quantity, int]
    dense: Candidate
    baselines: list[Candidate]
    best: Candidate
    verified: list[Candidate]
    predictor: str
    pairs: int
    card: QualityCard | None
    warm_start: WarmStart | None
    importances: list[ChoiceImportance]
    refinement: Refinement | None
    rounds: list[Round]
    measured: int
    cached: int
    export: ExportReport | None
    seconds: float
    recovered: Recovered | None

    def to_json(self) -> dict[str, Any]:
        """The object that ``prunecast run --json`` ends with."""
        card = self.card
        return {
            "run": self.run,
            "name": self.name,
            "model": {"source": self.model.source, "fingerprint": self.model.fingerprint, "dtype": self.dtype},
            "budget": self.budget,
            "dense": self.dense.to_json(),
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "best": self.best.to_json(),
            "verified": [candidate.to_json() for candidate in self.verified],
            "predictor": {
                "use": self.predictor,
                "pairs": self.pairs,
                "r2": None if card is None else card.objective.r2,
                "kendall_tau": None if card is None else card.objective.kendall_tau,
            },
            "quality_card": None if card is None else card.to_json(),
            "warm_start": None if self.warm_start is None else self.warm_start.to_json(),
            "importances": [importance.to_json() for importance in self.importances],
            "refinement": None if self.refinement is None else self.refinement.to_json(),
            "rounds": [each.to_json() for each in self.rounds],
            "recovery": None if self.recovered is None else self.recovered.to_json(),
            "evaluations": {"measured": self.measured, "cached": self.cached},
            "seconds": round(self.seconds, 2),
            "export": None if self.export is None else self.export.to_json(),
        }
